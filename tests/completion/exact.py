"""Conditionals of mixtures of Gaussians and of Bernoullis, by numpy and scipy alone."""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal, norm
from torch import Tensor

from taut.model import exact_inference
from taut.model.joint import Joint
from taut.model.likelihood.linear_gaussian import LinearGaussian


class Mixture(NamedTuple):
    """Weights [c], means [c, d] and covariances [c, d, d]."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return self.weights @ self.means

    @property
    def covariance(self) -> np.ndarray:
        centred = self.means - self.mean
        return np.einsum("c,cij->ij", self.weights, self.covariances) + (self.weights * centred.T) @ centred

    def log_prob(self, row: np.ndarray) -> float:
        """Log-density of what is observed in a row, nats."""
        o = np.flatnonzero(~np.isnan(row))
        parts = [multivariate_normal(m[o], s[np.ix_(o, o)]).logpdf(row[o]) if len(o) else 0.0 for _, m, s in zip(*self)]  # noqa: B905
        return float(logsumexp(parts, b=self.weights))

    def given(self, row: np.ndarray) -> "Mixture":
        """What is hidden in a row, given what is not."""
        o, h = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        if not len(o):
            return self
        log_w, means, covariances = [], [], []
        for weight, m, s in zip(*self, strict=True):
            gain = s[np.ix_(h, o)] @ np.linalg.inv(s[np.ix_(o, o)])
            log_w.append(np.log(weight) + multivariate_normal(m[o], s[np.ix_(o, o)]).logpdf(row[o]))
            means.append(m[h] + gain @ (row[o] - m[o]))
            covariances.append(s[np.ix_(h, h)] - gain @ s[np.ix_(o, h)])
        return Mixture(softmax(log_w), np.stack(means), np.stack(covariances))

    def mode(self, cell: int) -> float:
        """The most probable value of one cell, on a grid that is refined twice."""
        m, s = self.means[:, cell], np.sqrt(self.covariances[:, cell, cell])
        low, high = m.min() - 1e-3, m.max() + 1e-3
        for _ in range(3):
            grid = np.linspace(low, high, 20001)
            height = norm.pdf(grid[:, None], m, s) @ self.weights
            best, step = grid[height.argmax()], grid[1] - grid[0]
            low, high = best - 2 * step, best + 2 * step
        return float(best)


def gaussians(joint: Joint) -> Mixture:
    """P(x) of a linear-Gaussian model or of a mixture of Gaussians."""
    likelihood = joint.likelihood
    if not isinstance(likelihood, LinearGaussian):
        values = (joint.prior.probs, likelihood.means, likelihood.covariances())
        return Mixture(*(value.detach().numpy() for value in values))
    log_w, means, covariances = (value.detach() for value in exact_inference._gaussians(joint.prior()))
    w, noise = likelihood.weight.detach(), likelihood.variance.detach() * torch.eye(len(likelihood.weight))
    centres = means @ w.mT + likelihood.mean.detach()
    return Mixture(log_w.softmax(0).numpy(), centres.numpy(), (w @ covariances @ w.mT + noise).numpy())


def pixels(weights: Tensor, probs: Tensor, row: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Every filling of the hidden pixels of a row, and its probability given the others, by enumeration."""
    hidden = np.flatnonzero(row.isnan().numpy())
    fillings = np.array(list(itertools.product([0.0, 1.0], repeat=len(hidden))))
    rows = np.repeat(row.numpy()[None], len(fillings), 0)
    rows[:, hidden] = fillings
    p = probs.numpy()
    log_p = rows @ np.log(p).T + (1 - rows) @ np.log1p(-p).T + np.log(weights.numpy())
    return fillings, softmax(logsumexp(log_p, 1))
