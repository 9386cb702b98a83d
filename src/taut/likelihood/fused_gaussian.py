r"""The density of independent Gaussian cells from the two heads of a network, in few passes.

For the standardised datum r, heads f and g, and $v = v_{\min} + e^g$,

$$\log p = -\tfrac12 \textstyle\sum_i (e_i^2 / v_i + \log v_i) + \text{const}, \qquad e = r - f, \qquad
  \partial_f \log p = e / v, \qquad \partial_g \log p = \tfrac12 (e^2 / v - 1)\, e^g / v.$$

Both derivatives are made while the cells are at hand and are all that is kept.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

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
        hidden = r.isnan()
        error, grown = r - f.to(r.dtype), g.to(r.dtype).clamp(max=MOST).exp_()
        variance = grown + floor
        by_f = error / variance
        error.mul_(by_f)
        if any(ctx.needs_input_grad):
            by_g = (error - 1).mul_(grown).div_(variance).mul_(0.5).masked_fill_((g >= MOST) | hidden, 0.0)
            ctx.save_for_backward(by_f.masked_fill_(hidden, 0.0), by_g)
        return error.add_(variance.log_()).masked_fill_(hidden, 0.0).sum(-1).mul_(-0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_f, by_g = ctx.saved_tensors
        each = gradient.unsqueeze(-1)
        return by_f * each, by_g * each, None, None
