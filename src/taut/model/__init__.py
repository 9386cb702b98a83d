"""LightningModules: thin shells around a joint, a q and an objective."""
