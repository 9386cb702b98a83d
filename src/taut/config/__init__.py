"""What a command may say: words, configs, ranges, secrets, and the objects a config names."""
