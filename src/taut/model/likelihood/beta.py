"""Beta likelihood with a network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta as TorchBeta

from taut.functional.missing import column_mean, column_scale
from taut.model.likelihood.per_cell import PerCell, refuse_outside

LEAST, MOST = -5.0, 10.0
"""Log-concentrations beyond which they stay: the density has no bound as they grow."""
EDGE = 1e-6
"""Means stay this far from 0 and 1, at which there is no density."""


class BetaCells(TorchBeta):
    """Beta cells, of density 0 outside of (0, 1)."""

    def log_prob(self, value: Tensor) -> Tensor:
        inside = (value > 0) & (value < 1)
        return torch.where(inside, super().log_prob(torch.where(inside, value, 0.5)), -torch.inf)


class Beta(PerCell):
    r"""$p(x \mid z) = \prod_i \mathrm{Beta}(x_i; m_i c_i, (1 - m_i) c_i)$ for numbers between 0 and 1, such as shares.

    The mean is $m = \sigma(f)$ and the concentration $c = e^g$, whose variance is $m (1 - m) / (c + 1)$. c is capped at
    $e^{10}$, which keeps the likelihood bounded. Both start at the moments of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the heads f and g lie along the first axis of its output.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__(x_shape, latent, decoder, 2)
        with torch.no_grad():
            self.offset[1] += 2  # one peak, where no rows say otherwise

    def cells(self, heads: Float[Tensor, "2 *cells"]) -> BetaCells:
        # in double: the logarithms of two large gamma functions differ by little
        f, g = heads.double()
        mean, concentration = f.sigmoid().clamp(EDGE, 1 - EDGE), g.clamp(LEAST, MOST).exp()
        return BetaCells(mean * concentration, (1 - mean) * concentration, validate_args=False)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        mean, variance = column_mean(x).clamp(0.001, 0.999), column_scale(x).square()
        f, g = self.offset
        f.copy_(mean.logit())
        g.copy_((mean * (1 - mean) / variance - 1).clamp_min(1e-2).log().clamp(-2, 5))

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        refuse_outside(
            x,
            (x > 0) & (x < 1),
            "likelihood=beta needs numbers between 0 and 1, both excluded",
            "for pixels add data.dequantise=uniform, choose likelihood=continuous_bernoulli where 0 and 1 occur, "
            "gaussian for other numbers",
        )

    @torch.no_grad()
    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        cells = self(z).base_dist
        concentration = (cells.concentration1 + cells.concentration0).flatten(-len(self.x_shape)).flatten(0, -2)
        capped = int((concentration.log() >= MOST - 1e-6).any(0).sum())
        if not capped:
            return []
        return [
            f"the log-concentration of {capped} of {concentration.shape[1]} columns is at its cap of {MOST:g} for some "
            "data, where log p(x) depends on the cap."
        ]
