r"""Gaussian cells, and which of them are missing for what they hold.

A cell of value r, in units of the data, is missing with probability $\sigma(a r + c)$. The logistic function is a
mixture of distribution functions of Gaussians, $\sigma(t) = \sum_i p_i \Phi(s_i t)$, to 2.2e-9 everywhere with the
eight terms of Monahan & Stefanski (1992), and so a missing cell is summed over in closed form: for $r \sim N(f, v)$

$$p(\text{missing}) = \sum_i p_i \Phi(t_i), \qquad t_i = \frac{s_i (a f + c)}{\sqrt{1 + s_i^2 a^2 v}}, \qquad
  u_i = \frac{s_i a}{\sqrt{1 + s_i^2 a^2 v}},$$

$$E[r \mid \text{missing}] = f + v\, \frac{\sum_i p_i u_i \varphi(t_i)}{\sum_i p_i \Phi(t_i)}, \qquad
  \mathrm{Var}[r \mid \text{missing}] = v - v^2 \Big( \frac{\sum_i p_i u_i^2 t_i \varphi(t_i)}{\sum_i p_i \Phi(t_i)}
  + \Big(\frac{\sum_i p_i u_i \varphi(t_i)}{\sum_i p_i \Phi(t_i)}\Big)^2 \Big).$$
"""

from collections.abc import Sequence
from math import log, pi
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from taut.distributions.cells import Given
from taut.distributions.diagonal_gaussian import MOST, Heads
from taut.functional.missing import filled, observed

WEIGHTS = (
    *(0.003246343272134, 0.051517477033972, 0.195077912673858, 0.315569823632818),
    *(0.274149576158423, 0.131076880695470, 0.027912418727972, 0.001449567805354),
)
SCALES = (
    *(1.365340806296348, 1.059523971016916, 0.830791313765644, 0.650732166639391),
    *(0.508135425366489, 0.396313345166341, 0.308904252267995, 0.238212616409306),
)
FARTHEST = 35.0
"""Deviations beyond which a tail of the Gaussian has no mass in float64, and no draw."""


class Missing(NamedTuple):
    """Terms of the sum for cells that are missing: the first axis is that of the eight terms.

    Args:
        t: Where each term stands.
        u: Its slope by the mean.
        log_terms: Logarithm of its part of the probability.
    """

    t: Float[Tensor, "8 *cells"]
    u: Float[Tensor, "8 *cells"]
    log_terms: Float[Tensor, "8 *cells"]

    @classmethod
    def of(cls, f: Tensor, variance: Tensor, slope: Tensor, level: Tensor) -> "Missing":
        """Cells of mean f and this variance that are missing with probability σ(slope r + level)."""
        shape = (-1, *[1] * f.dim())
        scales, weights = (
            torch.tensor(values, dtype=f.dtype, device=f.device).view(shape) for values in (SCALES, WEIGHTS)
        )
        shrunk = scales / (1 + (scales * slope).square() * variance).sqrt()
        t = shrunk * (slope * f + level)
        return cls(t, shrunk * slope, weights.log() + torch.special.log_ndtr(t))

    @property
    def log_probability(self) -> Float[Tensor, "*cells"]:
        """Of being missing, nats."""
        return self.log_terms.logsumexp(0)

    @property
    def hazards(self) -> Float[Tensor, "8 *cells"]:
        """Density over distribution function, by the part of each term: what moments are sums of."""
        # logarithms, since both are 0 in float32 some ten deviations out
        log_density = -0.5 * self.t.square() - 0.5 * log(2 * pi) - torch.special.log_ndtr(self.t)
        return (self.log_terms - self.log_probability + log_density).exp()


class SelfMasked(Heads):
    r"""$p(x_{obs}, s \mid z)$ of Gaussian cells: a NaN is a cell that is missing, for what it holds.

    ``mean``, ``variance`` and ``sample`` are those of x before any cell is hidden.

    Args:
        heads: The cells.
        slope: By how much the log-odds of being missing grow with a standard deviation of the data, ``[*x]``.
        level: Log-odds at the mean of the data, ``[*x]``.
    """

    def __init__(self, heads: Heads, slope: Float[Tensor, "*x"], level: Float[Tensor, "*x"]) -> None:
        # under autocast the network gives half precision, in which no density is worth its name
        f, g = (head.to(torch.promote_types(head.dtype, torch.float32)) for head in (heads.f, heads.g))
        super().__init__(f, g, heads.shift, heads.scale, heads.floor)
        self.slope, self.level = slope, level

    def log_prob(self, value: Tensor) -> Tensor:
        axes = len(self.event_shape)
        seen = observed(value)
        r = filled((value - self.shift) / self.scale).to(self.f.dtype)
        shown = logsigmoid(-(self.slope * r + self.level))
        which = torch.where(seen, shown, self._log_missing(~seen))
        return super().log_prob(value) + which.flatten(-axes).sum(-1)

    def _log_missing(self, missing: Tensor) -> Tensor:
        """Log-probability that a cell is missing, where it is."""
        if missing.is_cuda or missing.shape != self.f.shape[self.f.dim() - missing.dim() :]:
            return self.missing.log_probability
        # on a CPU the eight terms are most of a training step, and few cells need them
        slope, level = (value.expand(missing.shape)[missing] for value in (self.slope, self.level))
        cells = Missing.of(self.f[..., missing], self.variance_in_units[..., missing], slope, level)
        return torch.zeros_like(self.f).masked_scatter(missing, cells.log_probability)

    @property
    def variance_in_units(self) -> Tensor:
        """$v$ of every cell, in units of the data."""
        return self.floor + self.g.clamp(max=MOST).exp()

    @property
    def missing(self) -> Missing:
        """The cells as they are where they are missing."""
        return Missing.of(self.f, self.variance_in_units, self.slope, self.level)

    def given(self, x: Float[Tensor, "b *x"]) -> Given:
        return Given(_Hidden(self), x)


class _Hidden(Distribution):
    """Cells that are known to be missing: extended skew-normal ones, mixed (Azzalini, 1985)."""

    def __init__(self, cells: SelfMasked) -> None:
        self.cells = cells
        super().__init__(cells.batch_shape, cells.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        cells, missing = self.cells, self.cells.missing
        r = cells.f + cells.variance_in_units * (missing.u * missing.hazards).sum(0)
        return cells.shift + cells.scale * r

    @property
    def variance(self) -> Tensor:
        cells, missing, hazards = self.cells, self.cells.missing, self.cells.missing.hazards
        first, second = (missing.u * hazards).sum(0), (missing.u.square() * missing.t * hazards).sum(0)
        v = cells.variance_in_units
        # at least 0: the difference of two large numbers where the slope is steep
        return cells.scale.square() * (v - v.square() * (second + first.square())).clamp_min(0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        cells, shape = self.cells, torch.Size(sample_shape)
        f, v = (value.double().expand(*shape, *value.shape) for value in (cells.f, cells.variance_in_units))
        missing = Missing.of(f, v, cells.slope.double(), cells.level.double())
        # one of the eight by its part, then the normal that was above -t, and what it says of the cell
        part = (missing.log_terms - torch.empty_like(missing.log_terms).exponential_().log()).argmax(0, keepdim=True)
        t, u = (values.gather(0, part)[0] for values in (missing.t.clamp_min(-FARTHEST), missing.u))
        above = -torch.special.ndtri((1 - torch.rand_like(t)) * torch.special.ndtr(t))
        left = (1 - u.square() * v).clamp_min(0).sqrt()
        r = f + v * u * above + v.sqrt() * left * torch.randn_like(t)
        return cells.shift + cells.scale * r
