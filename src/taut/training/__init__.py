"""LightningModules and all that only Lightning calls: building, checkpoints, metrics, strategies."""
