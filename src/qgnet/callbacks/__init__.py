"""What a Trainer does besides training: announcements, results, figures, checks."""
