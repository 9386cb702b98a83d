"""How Hydra starts the jobs of a taut sweep."""
