"""Preparations: download, convert, index and count; a file per data set."""
