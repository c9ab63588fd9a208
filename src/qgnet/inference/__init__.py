"""The user's own photographs: a segmenter learnt from a few masks."""
