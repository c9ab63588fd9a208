"""The folder of a run: what the run is, its results, and tables of results."""
