"""Data sets that live in memory: splits, binarisation and batches."""
