"""What each data set is, in one object and one file; no torch, so that preparing needs none."""
