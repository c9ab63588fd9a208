"""What every room may use: mistakes and their messages, settings and their ranges, processes, paths."""
