r"""The last linear map and the density of Bernoulli pixels in one step, with a backward pass of two matrix products.

For features h, weights W, offset o, and signs $s = 2 x - 1$ (0 where x is not observed),

$$\log p(x \mid h) = \textstyle\sum_i \log u_i, \qquad u = \sigma(s \odot (W h + o)), \qquad
  \partial \log p / \partial (W h + o) = s \odot (1 - u).$$

u is made in place of the logits and kept; the sum of logarithms is that of products of many u. The gradient by the
logits takes one pass over u, and that of each draw is put on its features, which are fewer than its pixels.
"""

from functools import cached_property
from math import isfinite
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits, linear, logsigmoid

from taut.distributions.cells import Cells
from taut.functional.missing import filled

FACTORS = 32
"""Probabilities multiplied before a logarithm is taken; in float32 they may be 0.065 on average."""
MINUS_ONE = torch.tensor(-1.0)


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
    sign = torch.add(MINUS_ONE, x, alpha=2)
    return sign if whole else sign.nan_to_num_(0.0)


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, offset: Tensor, sign: Tensor, whole: bool) -> Tensor:
        log_p, u, ctx.low = scored(h, weight, offset, sign, whole)
        ctx.save_for_backward(h, weight, sign, u)
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, sign, u = ctx.saved_tensors
        if not any(ctx.needs_input_grad[1:3]):
            # half of the work where z alone moves
            return feature_slopes(gradient, weight, sign, u, ctx.low)[1], None, None, None, None
        return *slopes(gradient, h, weight, sign, u, ctx.low), None, None


def scored(
    h: Float[Tensor, "k b f"],
    weight: Float[Tensor, "d f"],
    offset: Float[Tensor, " d"],
    sign: Float[Tensor, "b d"],
    whole: bool,
    out: Float[Tensor, "n d"] | None = None,
) -> tuple[Float[Tensor, "k b"], Float[Tensor, "k b d"], torch.dtype]:
    """The density, the probabilities u that :func:`slopes` needs, and the precision of the product.

    Without a graph the probabilities can be written into ``out``.
    """
    logits = torch.addmm(offset, h.flatten(0, 1), weight.mT, out=out)  # in half precision under autocast
    u = logits.to(h.dtype).view(*h.shape[:2], -1).mul_(sign).sigmoid_()
    if not whole:
        # sigmoid(0) is a half, but a missing pixel must be a factor of 1
        u.masked_fill_(sign == 0, 1.0)
    log_p = log_product(u)
    # a product of FACTORS small probabilities can be below every number of this precision
    if not isfinite(log_p.sum().item()):
        lost = ~log_p.isfinite()
        log_p[lost] = _one_by_one(h[lost], weight, offset, sign.expand_as(u)[lost])
    return log_p, u, logits.dtype


def slopes(
    gradient: Float[Tensor, "k b"],
    h: Float[Tensor, "k b f"],
    weight: Float[Tensor, "d f"],
    sign: Float[Tensor, "b d"],
    u: Float[Tensor, "k b d"],
    low: torch.dtype,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Float[Tensor, "k b f"], Float[Tensor, "d f"], Float[Tensor, " d"]]:
    """Gradients by features, weights and offset, from that by the density of each draw.

    In single precision the last two can be written into ``out``; u is then written over as well.
    """
    # autocast does not reach in here: the products take the precision of the forward pass
    by_weight, by_offset = out or (None, None)
    # in place where it may be: the largest tensors of a step are what it waits for
    by_logit, by_h = feature_slopes(gradient, weight, sign, u, low, out=None if out is None else u)
    each = gradient.reshape(-1, 1)
    by_weight = torch.mm(by_logit.mT, (each * h.flatten(0, 1)).to(low), out=by_weight).to(h.dtype)
    by_offset = torch.mv(by_logit.mT, each.flatten().to(low), out=by_offset).to(h.dtype)
    return by_h, by_weight, by_offset


def feature_slopes(
    gradient: Float[Tensor, "k b"],
    weight: Float[Tensor, "d f"],
    sign: Float[Tensor, "b d"],
    u: Float[Tensor, "k b d"],
    low: torch.dtype,
    out: Float[Tensor, "k b d"] | None = None,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "k b f"]]:
    """Gradients by the logits of a density of weight 1, and by the features; the first may be written into ``out``."""
    by_logit = torch.addcmul(sign, sign, u, value=-1, out=out).flatten(0, 1).to(low)
    by_h = (by_logit @ weight.to(low)).to(u.dtype).mul_(gradient.reshape(-1, 1)).view(*gradient.shape, -1)
    return by_logit, by_h


def _one_by_one(h: Tensor, weight: Tensor, offset: Tensor, sign: Tensor) -> Tensor:
    """Some images with a logarithm for each pixel: their products are too small for a number."""
    return logsigmoid(sign * linear(h, weight, offset)).masked_fill_(sign == 0, 0.0).sum(-1)


def log_product(p: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    r"""$\sum_i \log p_i$ of probabilities, as logarithms of products of a few; $-\infty$ where one is too small."""
    whole = p.shape[-1] - p.shape[-1] % FACTORS
    products = p[..., :whole].unflatten(-1, (whole // FACTORS, FACTORS)).prod(-1)
    if whole < p.shape[-1]:
        products = torch.cat([products, p[..., whole:].prod(-1, keepdim=True)], -1)
    # a subnormal product has lost digits: the -inf of a 0 tells the caller to score pixel by pixel
    return torch.threshold_(products, torch.finfo(p.dtype).tiny, 0.0).log_().sum(-1)


class Pixels(Cells):
    r"""Independent Bernoulli pixels, scored at less than half the price.

    $\log p(x) = \sum_i \log \sigma(s_i l_i)$ with the sign $s_i = 2 x_i - 1$, or 0 where $x_i$ is NaN, a pixel that was
    not observed.

    Args:
        source: Logits of the pixels without their offset; with a ``weight``, the features ``[*batch, h]`` it maps to
            them, multiplied out when they are asked for.
        offset: What is added to the logits of every draw, of the shape of one image.
        weight: The last linear map of the network.
    """

    def __init__(self, source: Tensor, offset: Tensor, weight: Float[Tensor, "d h"] | None = None) -> None:
        self.source, self.offset, self.weight = source, offset, weight
        batch = source.shape[: source.dim() - (offset.dim() if weight is None else 1)]
        # not Independent's, which would need the base distribution, and so the logits, at once
        Distribution.__init__(self, batch, offset.shape, False)
        self.reinterpreted_batch_ndims = offset.dim()

    @cached_property
    def bare(self) -> Tensor:
        """The logits without their offset."""
        return self.source if self.weight is None else linear(self.source, self.weight).unflatten(-1, self.event_shape)

    @cached_property
    def base_dist(self) -> TorchBernoulli:  # type: ignore[override]
        """The pixels one by one; made when asked for."""
        return TorchBernoulli(logits=self.bare + self.offset, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.to(self.offset.dtype)  # the numbers of a table come in float64, and zeros and ones lose nothing
        if value.device.type == "cuda":
            return self._unseen(value)
        whole = not (value - value * value).any()  # zeros and ones: neither grey, nor infinite, nor missing
        if not whole and not ((value == 0) | (value == 1) | value.isnan()).all():
            return super().log_prob(value)
        if torch.is_grad_enabled():
            return self._fused(value, whole) if self._matching(value) else super().log_prob(value)
        sign = signs(value)
        offset = (self.offset * sign).masked_fill(value.isnan(), torch.inf)  # a factor of 1
        log_p = log_product(self._signed_logits(sign, offset).sigmoid_())
        lost = ~log_p.isfinite()
        if lost.any():
            log_p[lost] = self._one_by_one(value, lost)
        return log_p

    def _unseen(self, value: Tensor) -> Tensor:
        """Density without a look at the value, for which a GPU would have to be waited for."""
        logits = (self.bare + self.offset).to(value.dtype)  # they are rough under autocast
        # a number in place of NaN first: 0 times NaN would be NaN in the gradients
        x = filled(value, 0.5).expand_as(logits)
        each = binary_cross_entropy_with_logits(logits, x, reduction="none").masked_fill(value.isnan(), 0.0)
        return -each.flatten(-len(self.event_shape)).sum(-1)

    def _signed_logits(self, sign: Tensor, offset: Tensor) -> Float[Tensor, "*batch d"]:
        """Many draws for each datum share a last layer whose weights carry the sign."""
        # signed weights hold h numbers a pixel, signed logits k: with fewer draws than features the logits are cheaper
        if self.weight is None or not self._matching(sign) or self.batch_shape[0] < self.weight.shape[1]:
            return torch.addcmul(offset, self.bare, sign).flatten(-len(self.event_shape))
        weight = self.weight * sign.flatten(1).unsqueeze(-1)
        return torch.baddbmm(offset.flatten(1).unsqueeze(1), self.source.transpose(0, 1), weight.mT).transpose(0, 1)

    def _matching(self, value: Tensor) -> bool:
        """Tell whether there are draws, by their features, for each datum of a batch."""
        return self.weight is not None and value.shape == (*self.batch_shape[1:], *self.event_shape) != self.event_shape

    def _fused(self, value: Float[Tensor, "b *x"], whole: bool) -> Float[Tensor, "k b"]:
        assert self.weight is not None
        return fused_log_prob(value.flatten(1), self.source, self.weight, self.offset.flatten(), whole)

    def _one_by_one(self, value: Tensor, rows: Bool[Tensor, "*batch"]) -> Float[Tensor, " n"]:
        """Some images as torch scores them: their products are too small for a number."""
        source = self.source.expand(*rows.shape, *self.source.shape[len(self.batch_shape) :])[rows]
        some = Pixels(source, self.offset, self.weight)
        return super(Pixels, some).log_prob(value.expand(*rows.shape, *self.event_shape)[rows])
