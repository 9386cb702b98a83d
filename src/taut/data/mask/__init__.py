"""Which cells of a datum are observed: one mask per file."""
