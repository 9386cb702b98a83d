"""Callbacks around training: pictures, the metrics file, speed, KL warm-up, early stopping."""
