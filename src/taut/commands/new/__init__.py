"""``taut new``: the start of a piece of your own, in your folder, with its yaml and a contract test."""
