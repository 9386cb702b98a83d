"""Gaussians: a diagonal one whose density takes half the passes of torch's, tables of many, factors of covariances."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal


class Gaussian(Independent):
    r"""$N(z; m, \mathrm{diag}\, s^2)$ over the last axis: ``Independent(Normal(m, s), 1)`` with its density fused.

    $\log N(z) = -\frac12 |(z - m) / s|^2 - \sum_i \log s_i - \frac d2 \log 2\pi$.

    >>> one = Gaussian.of(torch.zeros(2), torch.ones(2))
    >>> one.log_prob(torch.zeros(2)).item() == -math.log(2 * math.pi)
    True
    """

    noise: torch.dtype

    @classmethod
    def of(cls, mean: Tensor, deviation: Tensor) -> "Gaussian":
        """The Gaussian of this mean and standard deviation, both ``[*batch, d]``."""
        made = cls(Normal(mean, deviation, validate_args=False), 1, validate_args=False)
        made.noise = torch.promote_types(mean.dtype, torch.float32)
        return made

    def expand(self, batch_shape: Sequence[int], _instance: "Gaussian | None" = None) -> "Gaussian":
        """The same with further batch axes."""
        made = super().expand(torch.Size(batch_shape), _instance)
        assert isinstance(made, Gaussian)
        made.noise = self.noise
        return made

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws of :meth:`rsample` without a graph."""
        with torch.no_grad():
            return self.rsample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Standard normal noise times s, plus m.

        The noise has the precision in which m and s were made, also when they are in float64 by now: its own rounding
        matters to no density, and float64 noise takes four times as long.
        """
        mean, deviation = self.base_dist.loc, self.base_dist.scale
        noise = standard_normal(torch.Size((*sample_shape, *mean.shape)), self.noise, mean.device)
        return torch.addcmul(mean, noise.to(mean.dtype), deviation)

    def log_prob(self, value: Tensor) -> Tensor:
        mean, deviation = self.base_dist.loc, self.base_dist.scale
        constant = deviation.log().sum(-1) + 0.5 * mean.shape[-1] * math.log(2 * math.pi)
        return -0.5 * ((value - mean) / deviation).square().sum(-1) - constant


def standard_normal(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draws of N(0, 1)."""
    return torch.randn(shape, dtype=dtype, device=device)


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
    rough = (failed > 0) | ~(left >= PIVOT * product.diagonal(dim1=-2, dim2=-1)).all(-1)
    if not rough.any():
        return lower
    one = torch.eye(factor.shape[-1]).to(factor)
    lower = torch.linalg.cholesky(torch.where(rough[..., None, None], one, product))  # no NaN may reach a gradient
    upper = torch.linalg.qr(factor[rough].mT).R
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
    found = factor @ root
    covariance = found @ found.mT
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    surely = least + spread.shape[-1] * torch.finfo(trace.dtype).eps * trace  # what rounding leaves of an eigenvalue
    lowered = covariance - surely[:, None, None] * torch.eye(spread.shape[-1]).to(spread)
    doubtful = (failed > 0) | (torch.linalg.cholesky_ex(lowered).info > 0)
    if doubtful.any():
        found[doubtful] = _raised(factor[doubtful], spread[doubtful], least)
    return found


def _raised(factor: Tensor, spread: Tensor, least: float) -> Tensor:
    values, vectors = torch.linalg.eigh(spread)
    axes, deviations, _ = torch.linalg.svd(factor @ (vectors * values.clamp_min(0).sqrt().unsqueeze(-2)))
    return triangular(axes * deviations.clamp_min(least**0.5).unsqueeze(-2))
