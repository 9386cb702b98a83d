"""A linear Gaussian model that every adapter is given in the words of its package: log p(x) is scipy's."""

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

WEIGHT = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 0.5], [-0.5, 0.3]])
BIAS = np.array([0.3, -0.2, 0.0, 1.0])
NOISE = 0.7
WIDER = 1.2
"""Standard deviation of q in those of the best independent one: its weights vary, and have a variance."""


def precision(noise: float = NOISE) -> np.ndarray:
    """Of the posterior of z."""
    return np.eye(2) + WEIGHT.T @ WEIGHT / noise**2


def code(noise: float = NOISE) -> tuple[np.ndarray, np.ndarray]:
    """The matrix that maps x - bias to the posterior mean of z, and the standard deviations of q."""
    return np.linalg.solve(precision(noise), WEIGHT.T / noise**2), WIDER / np.sqrt(np.diag(precision(noise)))


def data(n: int = 40) -> Tensor:
    """Rows of the model."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, 2)) @ WEIGHT.T + BIAS + NOISE * rng.normal(size=(n, 4))
    return torch.tensor(x, dtype=torch.float32)


def truth(x: Tensor, noise: float = NOISE) -> np.ndarray:
    """log p(x) of each row, nats."""
    covariance = WEIGHT @ WEIGHT.T + noise**2 * np.eye(4)
    return stats.multivariate_normal.logpdf(x.double().numpy(), BIAS, covariance)


class Encoder(nn.Module):
    """Mean and log-variance of q."""

    def __init__(self, noise: float = NOISE) -> None:
        super().__init__()
        matrix, deviations = code(noise)
        self.mean = nn.Linear(4, 2)
        self.log_variance = nn.Parameter(torch.tensor(2 * np.log(deviations), dtype=torch.float32))
        self.mean.weight.data = torch.tensor(matrix, dtype=torch.float32)
        self.mean.bias.data = torch.tensor(-matrix @ BIAS, dtype=torch.float32)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.mean(x)
        return mean, self.log_variance.expand_as(mean)


def decoder() -> nn.Linear:
    """The mean of x."""
    layer = nn.Linear(2, 4)
    layer.weight.data, layer.bias.data = (torch.tensor(one, dtype=torch.float32) for one in (WEIGHT, BIAS))
    return layer


def assert_agrees(report, x: Tensor, noise: float = NOISE) -> None:
    """Importance sampling and the upper bound lie at scipy's value within four of their own errors, which are small."""
    for name in ("importance", "struski"):
        found = report.evidence[name]
        assert found["monte_carlo_error"] < 0.01
        assert abs(found["value"] - truth(x, noise).mean()) < 4 * found["monte_carlo_error"] + 1e-4, name
