"""Episodes: what is drawn, by which protocol, and how images and masks become tensors."""
