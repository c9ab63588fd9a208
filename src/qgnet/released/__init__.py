"""Weights that others have released: what their tensors are called, and files of this project made of them."""
