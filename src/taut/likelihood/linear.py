"""Linear-Gaussian likelihood."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from taut.holes import Cells, column_mean, filled, observed
from taut.likelihood.base import Likelihood


class Linear(Likelihood):
    r"""$p(x \mid z) = N(x; W z + \mu, \sigma^2 I)$: probabilistic PCA under a normal prior (Tipping & Bishop, 1999).

    With a Gaussian or mixture-of-Gaussians prior $p(x)$ and the posterior are known in closed form.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of latent coordinates d.
        min_variance: Floor of $\sigma^2$, in squared units of x.
    """

    centre: Tensor

    def __init__(self, x_shape: Sequence[int], latent: int, *, min_variance: float = 1e-6) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.min_variance = min_variance
        self.weight = nn.Parameter(torch.randn(prod(self.x_shape), latent) / latent**0.5)
        self.mean = nn.Parameter(torch.zeros(prod(self.x_shape)))
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.register_buffer("centre", torch.zeros(prod(self.x_shape)))

    @property
    def variance(self) -> Float[Tensor, ""]:
        r"""$\sigma^2$."""
        return self.min_variance + self.log_variance.exp()

    def forward(self, z: Float[Tensor, "*batch d"]) -> Cells:
        mean = (z @ self.weight.to(z.dtype).mT + self.mean).unflatten(-1, self.x_shape)
        return Cells(Normal(mean, self.variance.sqrt(), validate_args=False), len(self.x_shape), validate_args=False)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        rows = x.flatten(1)
        self.mean.copy_(column_mean(rows))
        variance = (rows - self.mean).square().nanmean().clamp_min(self.min_variance)
        self.centre.copy_(self.mean)
        self.weight.mul_((variance / 2).sqrt())
        self._set_variance(variance / 2)

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> dict[str, Tensor]:
        """Sums of 1, x, z, |x|^2, x z', z z' over the data, for each coordinate over those that observe it.

        x is relative to the mean of the training rows, against cancellation. Where all coordinates share a sum, it has
        one entry.
        """
        if not isinstance(posterior, MultivariateNormal):
            raise NotImplementedError
        rows = x.flatten(1) - self.centre
        seen = observed(rows).to(rows) if rows.isnan().any() else rows.new_ones(len(rows), 1)
        rows, z = filled(rows), posterior.mean
        squares = posterior.covariance_matrix + z.unsqueeze(-1) * z.unsqueeze(-2)
        return {
            "n": seen.sum(0),
            "x": rows.sum(0),
            "z": seen.mT @ z,
            "xx": rows.square().sum(0),
            "xz": rows.mT @ z,
            "zz": (seen.mT @ squares.flatten(1)).unflatten(1, squares.shape[1:]),
        }

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        met = statistics["n"] > 0
        some = slice(None) if met.all() else met  # a coordinate that no row observed keeps its last values
        n, x, z, xx, xz, zz = (statistics[name][some] for name in ("n", "x", "z", "xx", "xz", "zz"))
        xz = xz - x.unsqueeze(1) * z / n.unsqueeze(1)
        zz = zz - z.unsqueeze(2) * z.unsqueeze(1) / n[:, None, None]
        weight = torch.linalg.solve(zz, xz.unsqueeze(1), left=False).squeeze(1)
        self.weight[some] = weight
        self.mean[some] = self.centre[some] + (x - (weight * z).sum(1)) / n
        residual = xx - x.square() / n - (weight * xz).sum(1)
        self._set_variance(residual.sum() / n.expand(len(x)).sum())

    def _set_variance(self, variance: Tensor) -> None:
        self.log_variance.copy_((variance - self.min_variance).clamp_min(1e-3 * self.min_variance).log())
