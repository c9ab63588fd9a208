"""What is trained and tested: LightningModules over the networks."""
