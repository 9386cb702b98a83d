"""Variational families q(z | x): one idea per file."""
