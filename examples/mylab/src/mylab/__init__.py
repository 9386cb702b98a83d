"""Pieces of our own for taut: Student's t as a prior, and Laplace's distribution as a likelihood."""
