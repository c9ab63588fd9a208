"""Training and test: LightningModules over the networks."""
