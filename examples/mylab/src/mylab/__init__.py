"""Pieces of our own for taut: Student's t as a prior, and Gumbel's distribution as a likelihood."""
