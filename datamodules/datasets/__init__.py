"""One file and one object for each data set. No torch, so that `qgnet prepare` does not need it."""
