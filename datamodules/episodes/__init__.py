"""Episodes: what is drawn, by which protocol, and how pictures and masks become tensors."""
