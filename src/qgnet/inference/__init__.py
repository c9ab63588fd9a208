"""Segmentation of the user's own images, learnt from a few masks."""

PRESENCE = 0.6
"""Least score of an image to get a mask."""
REFINE = ("auto", "walk", "sam2", "none")
"""Ways to refine masks to the edges of an image; the first is the default. See ``refiners.py``."""
