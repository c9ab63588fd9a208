"""Weights in files: encoders, prior extractors, banks, released networks, checkpoints."""
