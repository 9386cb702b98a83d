"""Torch distributions that accept missing cells, with densities fused where that pays."""
