"""The page of ``qgnet serve``: paint an object in a few images of a folder, see it found in all others."""
