"""Code that does not depend on segmentation: settings and their ranges, messages, processes, text files."""
