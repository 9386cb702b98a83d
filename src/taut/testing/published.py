"""Models whose log evidence is published or follows from a closed form: ``audit.py model=taut.testing.published:...``.

Each function takes no arguments and gives a model that brings its data along.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Gamma, Independent, MultivariateNormal, Normal

from taut.adapters.base import Functions

STRENGTH = (
    *(3040, 2470, 3610, 3480, 3810, 2330, 1800, 3110, 3670, 2310, 4360, 1880, 3670, 1740, 2250, 2650, 4970, 2620, 2900),
    *(1670, 2540, 3840, 3800, 4600, 1900, 2530, 2920, 4990, 1670, 3310, 3450, 3600, 2850, 1590, 3770, 3850, 2480, 3570),
    *(2620, 1890, 3030, 3030),
)
"""Compression strength of 42 specimens of radiata pine (Williams, 1959).

Row 9 is 3670, with densities 32.3 and 29.0, as in the published values; elsewhere it is 3160, 27.1 and 26.3.
"""
DENSITY = (
    *(29.2, 24.7, 32.3, 31.3, 31.5, 24.5, 19.9, 27.3, 32.3, 24.0, 33.8, 21.5, 32.2, 22.5, 27.5, 25.6, 34.5, 26.2, 26.7),
    *(21.1, 24.1, 30.7, 32.7, 32.6, 22.1, 25.3, 30.8, 38.9, 22.1, 29.2, 30.1, 31.4, 26.7, 22.1, 30.3, 32.0, 23.2, 30.3),
    *(29.9, 20.8, 33.2, 28.2),
)
WITHOUT_RESIN = (
    *(25.4, 22.2, 32.2, 31.0, 30.9, 23.9, 19.2, 27.2, 29.0, 23.9, 33.2, 21.0, 29.0, 22.0, 23.8, 25.3, 34.2, 25.7, 26.4),
    *(20.0, 23.9, 30.7, 32.6, 32.5, 20.8, 23.1, 29.8, 38.1, 21.3, 28.5, 29.2, 31.4, 25.9, 21.4, 29.8, 30.6, 22.6, 30.3),
    *(23.8, 18.4, 29.4, 28.2),
)
CENTRE, PRECISION = np.array([3000.0, 185.0]), np.array([0.06, 6.0])
"""Prior mean of intercept and slope, and their precisions in units of that of the noise (Friel & Pettitt, 2008)."""
SHAPE, RATE = 3.0, 2 * 300.0**2
"""Shape and rate of the gamma prior of the precision of the noise."""
PAIR_ROWS = 1_000
"""Rows of the Gaussian pair, whose draws are independent."""


class Regression:
    """Intercept, slope and log-precision as z; q is a Gaussian at the mode, a little wider than the posterior.

    One z is behind all 42 measurements, so that they are one datum.

    Args:
        density: The regressor, which is centred.
    """

    def __init__(self, density: Sequence[float]) -> None:
        self.design = np.stack([np.ones(len(density)), np.array(density) - np.mean(density)], 1)
        gram = self.design.T @ self.design + np.diag(PRECISION)
        strength = np.array(STRENGTH, float)
        best = np.linalg.solve(gram, self.design.T @ strength + PRECISION * CENTRE)
        rest = strength @ strength + PRECISION @ CENTRE**2 - best @ gram @ best
        shape, rate = SHAPE + len(density) / 2, RATE + rest / 2
        covariance = np.zeros((3, 3))
        covariance[:2, :2], covariance[2, 2] = np.linalg.inv(gram) * rate / shape, 1 / shape
        self.mean = torch.tensor([*best, np.log(shape / rate)])
        self.covariance = torch.tensor(1.3 * covariance)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """As :class:`~taut.adapters.base.Auditable` has it."""
        coefficients, log_precision = z[..., :2], z[..., 2]
        precision = log_precision.exp()
        spread = (precision.unsqueeze(-1) * torch.tensor(PRECISION)).rsqrt()
        # the density of the logarithm of the precision
        prior = (
            Normal(torch.tensor(CENTRE), spread).log_prob(coefficients).sum(-1)
            + Gamma(SHAPE, RATE).log_prob(precision)
            + log_precision
        )
        given = Normal(coefficients @ torch.tensor(self.design).T, precision.rsqrt().unsqueeze(-1))
        return prior + Independent(given, 1).log_prob(x.double())

    def q(self, x: Tensor) -> MultivariateNormal:
        """A Gaussian, the same for every x."""
        return MultivariateNormal(self.mean.expand(len(x), 3), self.covariance)


def _regression(density: Sequence[float]) -> Functions:
    model = Regression(density)
    found = Functions(model.log_joint, model.q, name="Radiata pine")
    found.data = torch.tensor([STRENGTH], dtype=torch.float64)
    return found


def radiata_pine_density() -> Functions:
    """Strength of radiata pine on its density; the log evidence is -310.1280 (Friel & Pettitt, 2008)."""
    return _regression(DENSITY)


def radiata_pine_without_resin() -> Functions:
    """Strength of radiata pine on its density without resin; the log evidence is -301.7046 (Friel & Pettitt, 2008)."""
    return _regression(WITHOUT_RESIN)


def gaussian_pair() -> Functions:
    r"""$p(z) = N(0.3, 1)$ and $q(z) = N(0, 1.3^2)$; x says nothing, so $\log p(x) = 0$ and every $L_K$ is a number.

    q is the wider of the two, so the weights are bounded and have every moment.
    """
    prior = Independent(Normal(torch.full((1,), 0.3, dtype=torch.float64), 1.0), 1)
    q = Independent(Normal(torch.zeros(1, dtype=torch.float64), 1.3), 1)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        return prior.sample(torch.Size([n])), torch.zeros(n, 1)

    found = Functions(
        lambda x, z: prior.log_prob(z), lambda x: q.expand([len(x)]), simulate, prior, name="Gaussian pair"
    )
    found.data = torch.zeros(PAIR_ROWS, 1)
    return found
