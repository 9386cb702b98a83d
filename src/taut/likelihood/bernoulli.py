"""Bernoulli likelihood with a network."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Distribution

from taut.errors import UserError
from taut.holes import Cells, column_mean
from taut.likelihood.base import Likelihood


class Pixels(Cells):
    """Independent Bernoulli pixels, scored without a graph at about half the price.

    Args:
        logits: Logits of the pixels, without their offset.
        offset: What is added to the logits of every draw, of the shape of one image.
    """

    def __init__(self, logits: Tensor, offset: Tensor) -> None:
        self.bare, self.offset = logits, offset
        event = offset.dim()
        Distribution.__init__(self, logits.shape[: logits.dim() - event], logits.shape[logits.dim() - event :], False)
        self.reinterpreted_batch_ndims = event

    @cached_property
    def base_dist(self) -> TorchBernoulli:  # type: ignore[override]
        """The pixels one by one; made when asked for."""
        return TorchBernoulli(logits=self.bare + self.offset, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        holes = value.isnan()
        if torch.is_grad_enabled() or not ((value == 0) | (value == 1) | holes).all():
            return super().log_prob(value)
        sign = (1 - 2 * value).masked_fill(holes, 0.0)
        least = (self.offset * sign).masked_fill(holes, -torch.inf)  # a term of 1 in the product
        folded = log_of_products(torch.addcmul(least, self.bare, sign).flatten(-len(self.event_shape)))
        return folded if folded.isfinite().all() else torch.where(folded.isfinite(), folded, super().log_prob(value))


def log_of_products(logits: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    r"""$-\sum_i \log(1 + e^{l_i})$ as few logarithms of products of up to 32 terms; $-\infty$ where one overflows.

    Overwrites its argument.
    """
    terms, d = logits.exp_().add_(1), logits.shape[-1]
    for _ in range(5):
        if d % 2:
            break
        d //= 2
        terms = terms[..., :d].mul_(terms[..., d:])
    return -terms.log_().sum(-1)


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
        return Pixels(self.decoder(z), self.offset)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.offset.copy_(column_mean(x).clamp(0.001, 0.999).logit())

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        other = x[(x != 0) & (x != 1) & ~x.isnan()]
        if len(other):
            raise UserError(
                f"likelihood=bernoulli needs x in {{0, 1}}, but the data hold {other[0].item():.6g}; "
                f"for pixels in "
                "[0, 1] set data.binarisation=dynamic, fixed or threshold, for other numbers choose "
                "likelihood=gaussian."
            )
