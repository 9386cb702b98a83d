"""Input of a command: words, configs, ranges, secrets, and the objects a config names."""
