"""How each data set lies in its folder: classes, folds, images and masks; no torch, so that preparing needs none."""
