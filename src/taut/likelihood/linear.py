"""Linear-Gaussian likelihood."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

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

    def forward(self, z: Float[Tensor, "*batch d"]) -> Independent:
        mean = (z @ self.weight.mT + self.mean).unflatten(-1, self.x_shape)
        return Independent(Normal(mean, self.variance.sqrt(), validate_args=False), len(self.x_shape))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        rows = x.flatten(1)
        variance = rows.var(0, correction=0).mean().clamp_min(self.min_variance)
        self.mean.copy_(rows.mean(0))
        self.centre.copy_(self.mean)
        self.weight.mul_((variance / 2).sqrt())
        self._set_variance(variance / 2)

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> dict[str, Tensor]:
        """Sums of 1, x, z, |x|^2, x z', z z'. x relative to the mean of the training rows, against cancellation."""
        if not isinstance(posterior, MultivariateNormal):
            raise NotImplementedError
        rows = x.flatten(1) - self.centre
        z = posterior.mean
        return {
            "n": rows.new_tensor(len(rows)),
            "x": rows.sum(0),
            "z": z.sum(0),
            "xx": rows.square().sum(),
            "xz": rows.mT @ z,
            "zz": posterior.covariance_matrix.sum(0) + z.mT @ z,
        }

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        n, x, z = (statistics[name] for name in ("n", "x", "z"))
        xz = statistics["xz"] - torch.outer(x, z) / n
        zz = statistics["zz"] - torch.outer(z, z) / n
        weight = torch.linalg.solve(zz, xz, left=False)
        self.weight.copy_(weight)
        self.mean.copy_(self.centre + (x - weight @ z) / n)
        residual = statistics["xx"] - x @ x / n - (weight * xz).sum()
        self._set_variance(residual / (n * len(x)))

    def _set_variance(self, variance: Tensor) -> None:
        self.log_variance.copy_((variance - self.min_variance).clamp_min(1e-3 * self.min_variance).log())
