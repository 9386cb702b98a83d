"""Priors p(z): one idea per file."""
