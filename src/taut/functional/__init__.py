"""Pure formulas on tensors: bounds, keyed sampling, precision, missing cells, Gaussians, the sums of EM."""
