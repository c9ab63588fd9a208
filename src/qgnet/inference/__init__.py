"""The user's own images: a segmenter learnt from a few masks."""

PRESENCE = 0.6
"""Least score of an image that is not left empty."""
