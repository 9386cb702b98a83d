"""Models that taut did not train, as its estimators of log p(x) see them: one file for each package they come from."""
