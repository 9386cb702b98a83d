"""Objectives: a bound that is reported, and a surrogate that is minimised. One idea per file."""
