r"""The last linear map and the density of Bernoulli pixels in one step, with a backward pass of two matrix products.

For features h, weights W, offset o, and signs $s = 2 x - 1$ (0 where x is not observed),

$$\log p(x \mid h) = \textstyle\sum_i \log u_i, \qquad u = \sigma(s \odot (W h + o)), \qquad
  \partial \log p / \partial (W h + o) = s \odot (1 - u).$$

u is made in place of the logits and kept; the sum of logarithms is that of products of many u. The gradient by the
logits takes one pass over u, and that of each draw is put on its features, which are fewer than its pixels.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, logsigmoid

FACTORS = 32
"""Probabilities multiplied before a logarithm is taken; in float32 they may be 0.065 on average."""


def fused_log_prob(
    x: Float[Tensor, "b d"],
    h: Float[Tensor, "k b f"],
    weight: Float[Tensor, "d f"],
    offset: Float[Tensor, " d"],
    whole: bool = False,
) -> Float[Tensor, "k b"]:
    r"""$\sum_i \log \mathrm{Bernoulli}(x_i; \sigma(W h + o)_i)$ over the observed pixels, nats; differentiable once.

    Args:
        x: Binary data, NaN where not observed; gets no gradient.
        h: Features of every draw.
        weight: The last linear map W.
        offset: The offset o.
        whole: Whether it is known that no pixel is missing.
    """
    return _LogProb.apply(h, weight, offset, signs(x, whole), whole)  # type: ignore[return-value]


def signs(x: Tensor, whole: bool = False) -> Tensor:
    """1 for a white pixel, -1 for a black one, 0 for one that is not observed, unless it is known that none is."""
    sign = 2 * x - 1
    return sign if whole else sign.nan_to_num_(0.0)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, offset: Tensor, sign: Tensor, whole: bool) -> Tensor:
        logits = torch.addmm(offset, h.flatten(0, 1), weight.mT)  # in half precision under autocast
        u = logits.to(h.dtype).view(*h.shape[:2], -1).mul_(sign).sigmoid_()
        if not whole:
            u.masked_fill_(sign == 0, 1.0)
        ctx.save_for_backward(h, weight, sign, u)
        ctx.low = logits.dtype
        log_p = log_product(u)
        lost = ~log_p.isfinite()
        if lost.any():
            log_p[lost] = _one_by_one(h[lost], weight, offset, sign.expand_as(u)[lost])
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        h, weight, sign, u = ctx.saved_tensors
        by_logit = torch.addcmul(sign, sign, u, value=-1).flatten(0, 1).to(ctx.low)
        each = gradient.reshape(-1, 1)
        by_h = (by_logit @ weight.to(ctx.low)).to(h.dtype).mul_(each).view_as(h)
        by_weight = (by_logit.mT @ (each * h.flatten(0, 1)).to(ctx.low)).to(h.dtype)
        by_offset = (by_logit.mT @ each.to(ctx.low)).to(h.dtype).flatten()
        return by_h, by_weight, by_offset, None, None


def _one_by_one(h: Tensor, weight: Tensor, offset: Tensor, sign: Tensor) -> Tensor:
    """Some images with a logarithm for each pixel: their products are too small for a number."""
    return logsigmoid(sign * linear(h, weight, offset)).masked_fill_(sign == 0, 0.0).sum(-1)


def log_product(p: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    r"""$\sum_i \log p_i$ of probabilities, as logarithms of products of a few; $-\infty$ where one is too small."""
    whole = p.shape[-1] - p.shape[-1] % FACTORS
    products = p[..., :whole].unflatten(-1, (whole // FACTORS, FACTORS)).prod(-1)
    products = torch.cat([products, p[..., whole:].prod(-1, keepdim=True)], -1)
    return torch.threshold_(products, torch.finfo(p.dtype).tiny, 0.0).log_().sum(-1)
