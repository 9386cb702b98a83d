"""Gaussians of which some coordinates are observed."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taut.gaussian import triangular
from taut.holes import Pattern


@dataclass(frozen=True)
class Partial:
    r"""$N(m_c, \Sigma_c)$ with coordinates o observed and h hidden, from one factor of each reordered covariance.

    With $\Sigma_{(o, h)} = L L^\top$: $\log N(x_o)$ takes $L_{oo}$ alone, $E[x_h \mid x_o] = m_h + L_{ho} L_{oo}^{-1}
    (x_o - m_o)$, and $L_{hh}$ is a factor of the covariance of $x_h$ given $x_o$ (Bishop, 2006, section 2.3.1).

    Args:
        pattern: Which coordinates are observed, in p masks alike.
        means: $m_c$, ``[c, d]``.
        factor: L of every Gaussian and mask, ``[c, p, d, d]``, coordinates o first.
    """

    pattern: Pattern
    means: Float[Tensor, "c d"]
    factor: Float[Tensor, "c p d d"]

    @classmethod
    def of(cls, pattern: Pattern, means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]) -> "Partial":
        r"""Reorder and factorise, from factors of $\Sigma_c$."""
        return cls(pattern, means, triangular(factors[:, torch.cat([pattern.seen, pattern.hidden], 1)]))

    def whitened(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "c p o n"]:
        """$L_{oo}^{-1} (x_o - m_o)$ for the data of every mask."""
        rows, seen, _ = self.pattern
        size = seen.shape[1]
        difference = x[rows.unsqueeze(2), seen.unsqueeze(1)] - self.means[:, seen].unsqueeze(2)
        return torch.linalg.solve_triangular(self.factor[..., :size, :size], difference.mT, upper=False)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "p n c"]:
        """Log-density of the observed coordinates, nats; 0 where there is none."""
        size = self.pattern.seen.shape[1]
        log_det = self.factor.diagonal(dim1=-2, dim2=-1)[..., :size].log().sum(-1)
        quadratic = self.whitened(x).square().sum(-2)
        return (-0.5 * quadratic - log_det.unsqueeze(-1) - 0.5 * size * math.log(2 * math.pi)).movedim(0, -1)

    def mean(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "p n c d"]:
        """X, with the mean of what is hidden under every Gaussian in the holes."""
        rows, seen, hidden = self.pattern
        size = seen.shape[1]
        pull = (self.factor[..., size:, :size] @ self.whitened(x)).mT
        inside = (self.means[:, hidden].unsqueeze(2) + pull).movedim(0, 2)  # [p, n, c, h]
        complete = x[rows].unsqueeze(2).repeat(1, 1, len(self.means), 1)
        return complete.scatter(-1, hidden[:, None, None].expand_as(inside), inside)

    @property
    def hidden_factor(self) -> Float[Tensor, "p c d d"]:
        """A factor of the covariance of the hidden coordinates given the observed ones, whose rows are 0."""
        _, seen, hidden = self.pattern
        masks, size, full = torch.arange(len(seen), device=seen.device), seen.shape[1], torch.zeros_like(self.factor)
        full[:, masks[:, None, None], hidden.unsqueeze(2), hidden.unsqueeze(1)] = self.factor[..., size:, size:]
        return full.movedim(0, 1)
