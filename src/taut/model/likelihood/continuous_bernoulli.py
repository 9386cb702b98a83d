r"""Continuous Bernoulli likelihood with a network.

The density by its logit, in which nothing special happens at $\lambda = 1/2$:

$$\log p(x) = \eta (x - \tfrac12) - \log \frac{\sinh t}{t}, \qquad \eta = \log \frac{\lambda}{1 - \lambda} = 2 t,
  \quad x \in [0, 1],$$

an exponential density that is cut off, and its mean is $\frac12 + \frac12 (\coth t - 1 / t)$. torch's own is given
$\lambda$, and takes a Taylor polynomial where $|\lambda - \frac12| < 10^{-3}$.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.functional.missing import column_mean
from taut.model.likelihood.per_cell import PerCell, refuse_outside

STEPS, WIDEST = 40, 200.0
"""Bisections of the starting value, and the largest that is looked for."""
FARTHEST = 1e4
"""Size of a logit beyond which it stays: for pixels that are always 0 the density grows with it, by its logarithm."""


SMALL = 0.3
"""|t| below which power series to the sixth power are exact to 1e-8, and quotients lose digits."""


class Cells(Distribution):
    r"""Cells in [0, 1] of density $\propto \lambda^x (1 - \lambda)^{1 - x}$ (Loaiza-Ganem & Cunningham, 2019).

    Args:
        logits: $\eta$.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        t, small = self._half()
        series = t / 3 - t**3 / 45 + 2 * t**5 / 945 - t**7 / 4725
        return 0.5 + 0.5 * torch.where(small, series, 1 / _safe(t, small).tanh() - 1 / _safe(t, small))

    @property
    def variance(self) -> Tensor:
        t, small = self._half()
        series = 1 / 3 - t**2 / 15 + 2 * t**4 / 189 - t**6 / 675
        # capped, as the square of sinh is infinite where its reciprocal is 0
        far = _safe(t, small)
        return 0.25 * torch.where(small, series, far**-2 - far.clamp(-40, 40).sinh() ** -2)

    def log_prob(self, value: Tensor) -> Tensor:
        t, small = self._half()
        far = _safe(t, small).abs()
        series = t**2 / 6 - t**4 / 180 + t**6 / 2835
        # log(sinh t / t), in which e^t would be infinite
        log_norm = torch.where(small, series, far + torch.log1p(-torch.exp(-2 * far)) - (2 * far).log())
        log_p = self.logits * (value - 0.5) - log_norm
        return torch.where((value >= 0) & (value <= 1), log_p, -torch.inf)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """By the inverse of the distribution function; of a falling density as 1 minus a draw of a rising one."""
        with torch.no_grad():
            shape = torch.Size((*sample_shape, *self.logits.shape))
            u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            size = self.logits.abs()
            # a slope too small to be seen: uniform
            flat = size < 1e-5
            size = torch.where(flat, 1.0, size)
            x = (1 + torch.log(u + (1 - u) * torch.exp(-size)) / size).clamp(0, 1)
            return torch.where(flat, u, torch.where(self.logits < 0, 1 - x, x))

    def _half(self) -> tuple[Tensor, Tensor]:
        t = 0.5 * self.logits
        return t, t.abs() < SMALL


def _safe(t: Tensor, small: Tensor) -> Tensor:
    """T away from 0, where the other branch counts: a NaN there would reach gradients."""
    return torch.where(small, 1.0, t)


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
