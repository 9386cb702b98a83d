"""Likelihoods p(x | z): one idea per file."""
