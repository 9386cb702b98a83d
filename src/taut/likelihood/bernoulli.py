"""Bernoulli likelihood with a network."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from taut.distributions.cells import Cells
from taut.errors import UserError
from taut.functional.missing import column_mean, filled
from taut.likelihood.base import Likelihood
from taut.likelihood.fused import fused_log_prob, log_product, signs
from taut.networks import MLPDecoder


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
        """The same without a look at the value: a GPU would have to be waited for."""
        logits = (self.bare + self.offset).to(value.dtype)  # they are rough under autocast
        x = filled(value, 0.5).expand_as(logits)
        each = binary_cross_entropy_with_logits(logits, x, reduction="none").masked_fill(value.isnan(), 0.0)
        return -each.flatten(-len(self.event_shape)).sum(-1)

    def _signed_logits(self, sign: Tensor, offset: Tensor) -> Float[Tensor, "*batch d"]:
        """Many draws for each datum share a last layer whose weights carry the sign."""
        if self.weight is None or not self._matching(sign) or self.batch_shape[0] < self.weight.shape[1]:
            return torch.addcmul(offset, self.bare, sign).flatten(-len(self.event_shape))
        weight = self.weight * sign.flatten(1).unsqueeze(-1)
        return torch.baddbmm(offset.flatten(1).unsqueeze(1), self.source.transpose(0, 1), weight.mT).transpose(0, 1)

    def _matching(self, value: Tensor) -> bool:
        """Whether there are draws, by their features, for each datum of a batch."""
        return self.weight is not None and value.shape == (*self.batch_shape[1:], *self.event_shape) != self.event_shape

    def _fused(self, value: Float[Tensor, "b *x"], whole: bool) -> Float[Tensor, "k b"]:
        assert self.weight is not None
        return fused_log_prob(value.flatten(1), self.source, self.weight, self.offset.flatten(), whole)

    def _one_by_one(self, value: Tensor, rows: Bool[Tensor, "*batch"]) -> Float[Tensor, " n"]:
        """Some images as torch scores them: their products are too small for a number."""
        source = self.source.expand(*rows.shape, *self.source.shape[len(self.batch_shape) :])[rows]
        some = Pixels(source, self.offset, self.weight)
        return super(Pixels, some).log_prob(value.expand(*rows.shape, *self.event_shape)[rows])


class Bernoulli(Likelihood):
    r"""$p(x \mid z) = \prod_i \mathrm{Bernoulli}(x_i; \sigma(f(z)_i + b_i))$ for binary pixels.

    The offset b starts at the logit of the training mean (clipped to [0.001, 0.999], Burda et al., 2016), which is
    worth about a nat on binarised MNIST. With a categorical z and no hidden layer this is a mixture of Bernoullis.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, x_shape)``.
    """

    binary = True

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.decoder = decoder(latent, self.x_shape)
        self.offset = nn.Parameter(torch.zeros(self.x_shape))

    def forward(self, z: Float[Tensor, "*batch d"]) -> "Pixels":
        if not isinstance(self.decoder, MLPDecoder):
            return Pixels(self.decoder(z), self.offset)
        return Pixels(self.decoder.features(z), self.offset, self.decoder.last)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.offset.copy_(column_mean(x).clamp(0.001, 0.999).logit())

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        other = (x != 0) & (x != 1) & ~x.isnan()
        if other.any():
            raise UserError(
                f"likelihood=bernoulli needs x in {{0, 1}}, but the data hold {x[other][0].item():.6g}; "
                f"for pixels in "
                "[0, 1] set data.binarisation=dynamic, fixed or threshold, for other numbers choose "
                "likelihood=gaussian."
            )
