"""Continuous Bernoulli likelihood with a network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.continuous_bernoulli import ContinuousBernoulli as Cells
from taut.functional.missing import column_mean
from taut.model.likelihood.per_cell import PerCell, refuse_outside

STEPS, WIDEST = 40, 200.0
"""Bisections of the starting value, and the largest that is looked for."""
FARTHEST = 1e4
"""Size of a logit beyond which it stays: for pixels that are always 0 the density grows with it, by its logarithm."""


class ContinuousBernoulli(PerCell):
    r"""$p(x \mid z) = \prod_i C(\lambda_i) \lambda_i^{x_i} (1 - \lambda_i)^{1 - x_i}$ for grey pixels in [0, 1].

    $\lambda = \sigma(f(z))$, and C makes the density integrate to 1, which a Bernoulli likelihood of grey pixels
    forgets (Loaiza-Ganem & Cunningham, 2019). The offset starts where the means are those of the training rows. A
    density of pixels that are mostly 0 and 1 is high and no mass: compare it with nothing but its like.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, x_shape)``.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__(x_shape, latent, decoder, 1)

    def cells(self, heads: Float[Tensor, "1 *cells"]) -> Cells:
        return Cells(heads[0].clamp(-FARTHEST, FARTHEST))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        wanted = column_mean(x).double().clamp(0.005, 0.995)
        low, high = torch.full_like(wanted, -WIDEST), torch.full_like(wanted, WIDEST)
        for _ in range(STEPS):
            middle = (low + high) / 2
            above = Cells(middle).mean > wanted
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        self.offset[0].copy_(low)

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        refuse_outside(
            x,
            (x >= 0) & (x <= 1),
            "likelihood=continuous_bernoulli needs numbers from 0 to 1",
            "choose likelihood=gaussian for other numbers",
        )

    @torch.no_grad()
    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        logits = self(z).base_dist.logits.flatten(-len(self.x_shape)).flatten(0, -2)
        capped = int((logits.abs() >= FARTHEST).any(0).sum())
        if not capped:
            return []
        return [
            f"the logit of {capped} of {logits.shape[1]} columns is at its cap of {FARTHEST:g} for some data, where "
            "log p(x) depends on the cap."
        ]
