"""Masks of the observed cells of a datum."""
