r"""The density of independent Gaussian cells from the two heads of a network, in few passes.

For the standardised datum r, heads f and g, and $v = v_{\min} + e^g$,

$$\log p = -\tfrac12 \textstyle\sum_i (e_i^2 / v_i + \log v_i) + \text{const}, \qquad e = r - f, \qquad
  \partial_f \log p = e / v, \qquad \partial_g \log p = \tfrac12 (e^2 / v - 1)\, e^g / v.$$

Both derivatives are made while the cells are at hand and are all that is kept.
"""

from functools import cached_property
from math import log, pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, Normal

from taut.distributions.cells import Cells
from taut.functional.missing import observed

MOST = 15.0
"""Log-variance beyond which the variance stays; in units of the data it has nothing left to explain."""


def log_prob(
    r: Float[Tensor, "*n d"], f: Float[Tensor, "*k d"], g: Float[Tensor, "*k d"], floor: float
) -> Float[Tensor, "*m"]:
    r"""$\sum_i \log N(r_i; f_i, v_{\min} + e^{\min(g_i, 15)}) + \frac D2 \log 2 \pi$ over the observed cells, nats.

    Differentiable once, by the heads.

    Args:
        r: Data, NaN where not observed.
        f: Means.
        g: Log-variances above the floor.
        floor: The smallest variance $v_{\min}$.
    """
    shape = torch.broadcast_shapes(r.shape, f.shape)
    return _LogProb.apply(f.expand(shape), g.expand(shape), r, floor)  # type: ignore[return-value]


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, g: Tensor, r: Tensor, floor: float) -> Tensor:
        # scoring without a backward pass keeps nothing
        log_p, *by_heads = scored(f, g, r, floor, slopes=any(ctx.needs_input_grad))
        ctx.save_for_backward(*by_heads)
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_f, by_g = ctx.saved_tensors
        each = gradient.unsqueeze(-1)
        return by_f * each, by_g * each, None, None


def scored(f: Tensor, g: Tensor, r: Tensor, floor: float, *, slopes: bool) -> tuple[Tensor, ...]:
    """The density of :func:`log_prob`, and where they are asked for its derivatives by both heads."""
    hidden = r.isnan()
    # under autocast the heads come in half precision, r does not
    error, grown = r - f.to(r.dtype), g.to(r.dtype).clamp(max=MOST).exp_()
    variance = grown + floor
    by_f = error / variance
    error.mul_(by_f)
    by_heads: tuple[Tensor, ...] = ()
    if slopes:
        # where the variance is clamped g does not move it, and a missing cell, NaN here, moves nothing
        by_g = (error - 1).mul_(grown).div_(variance).mul_(0.5).masked_fill_((g >= MOST) | hidden, 0.0)
        by_heads = by_f.masked_fill_(hidden, 0.0), by_g
    return error.add_(variance.log_()).masked_fill_(hidden, 0.0).sum(-1).mul_(-0.5), *by_heads


class Heads(Cells):
    r"""$N(x; \mu + s \odot f,\ s^2 \odot (v_{\min} + e^g))$, scored in few passes.

    Args:
        f: Means in units of the data.
        g: Log-variances above the floor, likewise.
        shift: $\mu$.
        scale: s.
        floor: $v_{\min}$.
    """

    def __init__(self, f: Tensor, g: Tensor, shift: Tensor, scale: Tensor, floor: float) -> None:
        self.f, self.g, self.shift, self.scale, self.floor = f, g, shift, scale, floor
        # not Independent's, which would need the base distribution at once
        Distribution.__init__(self, f.shape[: f.dim() - shift.dim()], shift.shape, False)
        self.reinterpreted_batch_ndims = shift.dim()

    @cached_property
    def base_dist(self) -> Normal:  # type: ignore[override]
        """The cells one by one; made when asked for."""
        std = (self.floor + self.g.clamp(max=MOST).exp()).sqrt()
        return Normal(self.shift + self.scale * self.f, self.scale * std, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        axes = len(self.event_shape)
        r, units = in_units(value, self.shift, self.scale, self.f.dtype)
        return log_prob(r, self.f.flatten(-axes), self.g.flatten(-axes), self.floor) - units


def in_units(
    x: Tensor, shift: Float[Tensor, "*x"], scale: Float[Tensor, "*x"], dtype: torch.dtype
) -> tuple[Float[Tensor, "*n d"], Float[Tensor, "*n"]]:
    r"""Standardised data, flat, and what $-\log p$ of the observed cells owes to their units, nats."""
    axes = shift.dim()
    # an offset is taken off in float64; what is left is as exact in the precision of the heads as they are
    r = (x - shift).div_(scale).flatten(-axes).to(torch.promote_types(dtype, torch.float32))
    return r, (observed(x) * (scale.log() + 0.5 * log(2 * pi))).flatten(-axes).sum(-1)
