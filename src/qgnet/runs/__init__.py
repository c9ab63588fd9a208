"""A run's folder: what the run is, its results, and the tables made of them."""
