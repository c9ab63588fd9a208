"""The page of ``qgnet serve``: paint an object in a few images of a folder and find it in all others."""
