"""Configurations of runs: YAML files and command lines in layers, before anything is made of them."""
