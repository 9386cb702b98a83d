"""Shapes with names."""

from jaxtyping import Float
from torch import Tensor

LogWeights = Float[Tensor, "k b"]
PerDatum = Float[Tensor, " b"]
