"""The lecture on missing pixels, run as an experiment on a model where everything can be summed."""
