"""Gaussians: densities of many, factors of covariances, and the coordinates that follow from others."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional.missing import Pattern


@dataclass(frozen=True)
class Partial:
    r"""$N(m_c, \Sigma_c)$ with coordinates o observed and h missing, from one factor of each reordered covariance.

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
        return cls(pattern, means, triangular(factors[:, torch.cat([pattern.observed, pattern.missing], 1)]))

    def whitened(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "c p o n"]:
        """$L_{oo}^{-1} (x_o - m_o)$ for the data of every mask."""
        rows, observed, _ = self.pattern
        size = observed.shape[1]
        difference = x[rows.unsqueeze(2), observed.unsqueeze(1)] - self.means[:, observed].unsqueeze(2)
        return torch.linalg.solve_triangular(self.factor[..., :size, :size], difference.mT, upper=False)

    def log_prob(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "p n c"]:
        """Log-density of the observed coordinates, nats; 0 where there is none."""
        size = self.pattern.observed.shape[1]
        log_det = self.factor.diagonal(dim1=-2, dim2=-1)[..., :size].log().sum(-1)
        quadratic = self.whitened(x).square().sum(-2)
        return (-0.5 * quadratic - log_det.unsqueeze(-1) - 0.5 * size * math.log(2 * math.pi)).movedim(0, -1)

    def mean(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "p n c d"]:
        """X, with the mean under every Gaussian in the missing cells."""
        rows, observed, missing = self.pattern
        size = observed.shape[1]
        pull = (self.factor[..., size:, :size] @ self.whitened(x)).mT
        inside = (self.means[:, missing].unsqueeze(2) + pull).movedim(0, 2)  # [p, n, c, h]
        complete = x[rows].unsqueeze(2).repeat(1, 1, len(self.means), 1)
        return complete.scatter(-1, missing[:, None, None].expand_as(inside), inside)

    @property
    def missing_factor(self) -> Float[Tensor, "p c d d"]:
        """A factor of the covariance of the missing coordinates given the observed ones, whose rows are 0."""
        _, observed, missing = self.pattern
        masks, size, full = (
            torch.arange(len(observed), device=observed.device),
            observed.shape[1],
            torch.zeros_like(self.factor),
        )
        full[:, masks[:, None, None], missing.unsqueeze(2), missing.unsqueeze(1)] = self.factor[..., size:, size:]
        return full.movedim(0, 1)


def log_densities(
    x: Float[Tensor, "*n d"], means: Float[Tensor, "c d"], scale_tril: Float[Tensor, "c d d"]
) -> Float[Tensor, "*n c"]:
    r"""$\log N(x; m_c, L_c L_c^\top)$ in nats for every component, by triangular solves."""
    difference = (x.unsqueeze(-2) - means).movedim(-2, 0)  # [c, *n, d]
    rows = difference.flatten(1, -2).mT
    whitened = torch.linalg.solve_triangular(scale_tril, rows, upper=False)
    log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    quadratic = whitened.square().sum(-2).unflatten(-1, x.shape[:-1])
    normaliser = log_det + 0.5 * x.shape[-1] * math.log(2 * math.pi)
    return -0.5 * quadratic.movedim(0, -1) - normaliser


def cholesky(covariances: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    r"""L with $L L^\top = \Sigma$, or $\Sigma + \delta\, \mathrm{diag}\, \Sigma$ where rounding left $\Sigma$ singular.

    $\delta$ is the first of 10, 100, ... roundings that is enough, the same in every unit of the coordinates.
    """
    factor, failed = torch.linalg.cholesky_ex(covariances)
    spread = torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1)) * (failed > 0)[..., None, None]
    rounding = torch.finfo(covariances.dtype).eps
    while failed.any() and rounding < 1:
        rounding *= 10
        factor, failed = torch.linalg.cholesky_ex(covariances + rounding * spread)
    # where nothing was enough torch raises its own error
    return torch.linalg.cholesky(covariances) if failed.any() else factor


PIVOT = 1e-6
"""Share of a variance that must be left of it given the coordinates before: Cholesky knows it to 1e-16 of the whole."""


def triangular(factor: Float[Tensor, "*batch d d"]) -> Float[Tensor, "*batch d d"]:
    r"""The lower-triangular L, its diagonal not negative, with $L L^\top = F F^\top$.

    By Cholesky, and where that would lose digits by QR of $F^\top$ (Golub & Van Loan, 2013, section 5.2), which is off
    by a rounding of F where Cholesky is off by the root of one.
    """
    product = factor @ factor.mT
    lower, failed = torch.linalg.cholesky_ex(product)
    left = lower.diagonal(dim1=-2, dim2=-1).square()
    # `~ >=` instead of `<`: a NaN counts as rough
    rough = (failed > 0) | ~(left >= PIVOT * product.diagonal(dim1=-2, dim2=-1)).all(-1)
    if not rough.any():
        return lower
    identity = torch.eye(factor.shape[-1]).to(factor)
    # no NaN may reach a gradient
    lower = torch.linalg.cholesky(torch.where(rough[..., None, None], identity, product))
    upper = torch.linalg.qr(factor[rough].mT).R
    # QR leaves the signs of the diagonal open
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    return lower.index_put((rough,), (sign.unsqueeze(-1) * upper).mT)


def bounded(factor: Float[Tensor, "c d d"], spread: Float[Tensor, "c d d"], least: float) -> Float[Tensor, "c d d"]:
    r"""The Cholesky factors of $F M F^\top$ with every eigenvalue below ``least`` raised to it.

    Args:
        factor: F, lower-triangular.
        spread: M, a covariance in the coordinates that F gives; near the identity where F hardly changes.
        least: Smallest eigenvalue.
    """
    root, failed = torch.linalg.cholesky_ex(spread)
    lower = factor @ root
    covariance = lower @ lower.mT
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    surely = least + spread.shape[-1] * torch.finfo(trace.dtype).eps * trace  # what rounding leaves of an eigenvalue
    lowered = covariance - surely[:, None, None] * torch.eye(spread.shape[-1]).to(spread)
    doubtful = (failed > 0) | (torch.linalg.cholesky_ex(lowered).info > 0)
    # eigh and svd take far longer than Cholesky, so they see only what may be below the bound
    if doubtful.any():
        lower[doubtful] = _raised(factor[doubtful], spread[doubtful], least)
    return lower


def _raised(factor: Tensor, spread: Tensor, least: float) -> Tensor:
    values, vectors = torch.linalg.eigh(spread)
    # rounding can leave an eigenvalue of M just below 0, and its root NaN
    axes, stds, _ = torch.linalg.svd(factor @ (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)))
    return triangular(axes * stds.clamp_min(least**0.5).unsqueeze(-2))
