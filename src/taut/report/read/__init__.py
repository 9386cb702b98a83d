"""Reading finished runs: files that may be damaged, folders, scores, configs, names."""
