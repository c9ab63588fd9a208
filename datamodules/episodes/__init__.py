"""Episodes: how they are drawn, by which protocol, and how images and masks become tensors."""
