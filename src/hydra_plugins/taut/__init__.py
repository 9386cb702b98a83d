"""How Hydra starts the members of a taut sweep."""
