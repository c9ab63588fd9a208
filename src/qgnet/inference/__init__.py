"""The user's own images: a segmenter learnt from a few masks."""
