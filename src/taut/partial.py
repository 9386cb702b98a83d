"""Gaussians of which some coordinates are observed."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taut.holes import Pattern


@dataclass(frozen=True)
class Partial:
    r"""$N(m_c, \Sigma_c)$ with coordinates o observed and h hidden, from one factor of each reordered covariance.

    With $\Sigma_{(o, h)} = L L^\top$: $\log N(x_o)$ takes $L_{oo}$ alone, $E[x_h \mid x_o] = m_h + L_{ho} L_{oo}^{-1}
    (x_o - m_o)$, and $L_{hh}$ is a factor of the covariance of $x_h$ given $x_o$ (Bishop, 2006, section 2.3.1).

    Args:
        pattern: Which coordinates are observed.
        means: $m_c$, ``[c, d]``.
        factor: L, ``[c, d, d]``, coordinates o first.
    """

    pattern: Pattern
    means: Float[Tensor, "c d"]
    factor: Float[Tensor, "c d d"]

    @classmethod
    def of(cls, pattern: Pattern, means: Float[Tensor, "c d"], covariances: Float[Tensor, "c d d"]) -> "Partial":
        """Reorder and factorise."""
        order = torch.cat([pattern.seen, pattern.hidden])
        reordered = covariances[:, order[:, None], order]
        return cls(pattern, means, torch.linalg.cholesky(reordered))

    def whitened(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "c o n"]:
        """$L_{oo}^{-1} (x_o - m_o)$."""
        size = len(self.pattern.seen)
        difference = x[:, self.pattern.seen] - self.means[:, None, self.pattern.seen]
        return torch.linalg.solve_triangular(self.factor[:, :size, :size], difference.mT, upper=False)

    def log_prob(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Log-density of the observed coordinates, nats; 0 where there is none."""
        size = len(self.pattern.seen)
        log_det = self.factor.diagonal(dim1=-2, dim2=-1)[:, :size].log().sum(-1)
        quadratic = self.whitened(x).square().sum(-2)
        return -0.5 * quadratic.mT - log_det - 0.5 * size * math.log(2 * math.pi)

    def mean(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c d"]:
        """X, with the mean of what is hidden under every Gaussian in the holes."""
        seen, hidden = self.pattern.seen, self.pattern.hidden
        pull = (self.factor[:, len(seen) :, : len(seen)] @ self.whitened(x)).mT
        complete = x.unsqueeze(1).repeat(1, len(self.means), 1)
        complete[..., hidden] = (self.means[:, None, hidden] + pull).transpose(0, 1)
        return complete

    @property
    def hidden_factor(self) -> Float[Tensor, "c h h"]:
        """A factor of the covariance of the hidden coordinates given the observed ones."""
        size = len(self.pattern.seen)
        return self.factor[:, size:, size:]
