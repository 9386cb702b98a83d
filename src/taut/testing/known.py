"""Models whose log p(x) somebody else knows: scipy, in closed form."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, OneHotCategorical

from taut.evidence.target import Target


class Known(NamedTuple):
    r"""A target, some data, the z they came from, and log p(x) from an outside witness.

    Attributes:
        target: The model and its proposal.
        x: Data, ``[b, *x_shape]``.
        z: One draw of the posterior of each, ``[b, *z_shape]``.
        log_px: $\log p(x)$ of each, nats.
    """

    target: Target
    x: Tensor
    z: Tensor
    log_px: Tensor


def linear_gaussian(d: int, size: int, n: int, noise: float = 0.5, width: float = 1.0, shift: float = 0.0) -> Known:
    """p(z) = N(0, I), p(x|z) = N(Wz, s^2); q mean-field, ``width`` times as wide as the best one and shifted.

    Args:
        d: Coordinates of z.
        size: Coordinates of x.
        n: Number of data.
        noise: s.
        width: Standard deviation of q in those of the best one.
        shift: Distance of its mean from the best one, in the same unit.
    """
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(size, d, generator=generator, dtype=torch.float64)
    prior = Independent(Normal(torch.zeros(d, dtype=torch.float64), 1.0), 1)
    precision = torch.eye(d, dtype=torch.float64) + weight.T @ weight / noise**2
    scale = width * precision.diagonal().rsqrt()

    def q(x: Tensor) -> Independent:
        centre = torch.linalg.solve(precision, (x @ weight / noise**2).T).T
        return Independent(Normal(centre + shift * scale, scale.expand_as(centre)), 1)

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + Normal(z @ weight.T, noise).log_prob(x).sum(-1)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(n, d, dtype=torch.float64)
        return z, z @ weight.T + noise * torch.randn(n, size, dtype=torch.float64)

    z = torch.randn(n, d, generator=generator, dtype=torch.float64)
    x = z @ weight.T + noise * torch.randn(n, size, generator=generator, dtype=torch.float64)
    covariance = (weight @ weight.T + noise**2 * torch.eye(size, dtype=torch.float64)).numpy()
    truth = stats.multivariate_normal.logpdf(x.numpy(), np.zeros(size), covariance)  # pyright: ignore[reportArgumentType] (its stub's fault)
    return Known(Target(log_joint, q, prior, simulate=simulate), x, z, torch.as_tensor(np.reshape(truth, n)))


def gaussian_mixture(n: int) -> Known:
    """Three Gaussians in the plane; q a fixed wrong guess.

    Args:
        n: Number of data.
    """
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    factor = torch.tensor([[1.0, 0.0], [0.4, 0.7]], dtype=torch.float64)
    prior = OneHotCategorical(probs=weights)

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + MultivariateNormal(z @ means, scale_tril=factor).log_prob(x)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = prior.sample((n,))
        return z, MultivariateNormal(z @ means, scale_tril=factor).sample()

    with torch.random.fork_rng():
        torch.manual_seed(1)
        z, x = simulate(n)
    covariance = (factor @ factor.T).numpy()
    parts = [
        np.reshape(stats.multivariate_normal.logpdf(x.numpy(), mean, covariance), n)  # pyright: ignore[reportArgumentType] (its stub's fault)
        for mean in means.numpy()
    ]
    truth = logsumexp(np.stack(parts) + np.log(weights.numpy())[:, None], 0)
    guess = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    q = lambda x: OneHotCategorical(probs=guess.expand(len(x), 3))  # noqa: E731
    return Known(Target(log_joint, q, prior, simulate=simulate), x, z, torch.as_tensor(truth))
