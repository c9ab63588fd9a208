"""The user's own images: a segmenter learnt from a few masks."""

PRESENCE = 0.6
"""Least score of an image that is not left empty."""
REFINE = ("auto", "walk", "sam2", "none")
"""How masks may be brought to the edges of an image; the first is the default. See ``refiners.py``."""
