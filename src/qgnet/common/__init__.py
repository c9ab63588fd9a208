"""What knows nothing of segmentation: settings and their ranges, messages and mistakes, processes, text files."""
