"""Comparing scores: what is comparable, who is ahead, how sure that is."""
