"""Searches by Optuna: sweeps whose jobs are proposed one after another, from what those before them have scored."""
