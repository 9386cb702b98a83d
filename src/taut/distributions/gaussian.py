"""Gaussians: a diagonal one whose density takes half the passes of torch's, tables of many, factors of covariances."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Independent, Normal


class Gaussian(Independent):
    r"""$N(z; m, \mathrm{diag}\, s^2)$ over the last axis: ``Independent(Normal(m, s), 1)`` with its density fused.

    $\log N(z) = -\frac12 |(z - m) / s|^2 - \sum_i \log s_i - \frac d2 \log 2\pi$.

    >>> one = Gaussian.of(torch.zeros(2), torch.ones(2))
    >>> round(one.log_prob(torch.zeros(2)).item() + math.log(2 * math.pi), 6)
    0.0
    """

    noise: torch.dtype

    @classmethod
    def of(cls, mean: Tensor, std: Tensor) -> "Gaussian":
        """The Gaussian of this mean and standard deviation, both ``[*batch, d]``."""
        # torch would look at every value to validate it, and a GPU would have to be waited for
        made = cls(Normal(mean, std, validate_args=False), 1, validate_args=False)
        made.noise = torch.promote_types(mean.dtype, torch.float32)
        return made

    def expand(self, batch_shape: Sequence[int], _instance: "Gaussian | None" = None) -> "Gaussian":
        """Repeat this Gaussian along further batch axes."""
        made = super().expand(torch.Size(batch_shape), _instance)
        assert isinstance(made, Gaussian)
        # torch copies only what Independent itself holds
        made.noise = self.noise
        return made

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of :meth:`rsample` without a graph."""
        with torch.no_grad():
            return self.rsample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Standard normal noise times s, plus m.

        The noise has the precision in which m and s were made, also when they are in float64 by now: its own rounding
        matters to no density, and float64 noise takes four times as long.
        """
        mean, std = self.base_dist.loc, self.base_dist.scale
        noise = standard_normal(torch.Size((*sample_shape, *mean.shape)), self.noise, mean.device)
        return torch.addcmul(mean, noise.to(mean.dtype), std)

    def log_prob(self, value: Tensor) -> Tensor:
        mean, std = self.base_dist.loc, self.base_dist.scale
        constant = std.log().sum(-1) + 0.5 * mean.shape[-1] * math.log(2 * math.pi)
        return -0.5 * ((value - mean) / std).square().sum(-1) - constant


def standard_normal(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draws of N(0, 1)."""
    return torch.randn(shape, dtype=dtype, device=device)
