"""What a Trainer does beside the training: announcements, results, figures, checks."""
