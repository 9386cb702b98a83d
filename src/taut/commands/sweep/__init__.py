"""Sweeps whose jobs are processes of their own: what is to run, what has run, and what went wrong."""
