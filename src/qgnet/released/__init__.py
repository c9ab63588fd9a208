"""Weights released by other projects: the names of their tensors, and their conversion to files of this project."""
