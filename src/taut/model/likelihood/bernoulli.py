"""Bernoulli likelihood with a network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.bernoulli import Pixels
from taut.errors import UserError
from taut.functional.missing import column_mean
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood
from taut.model.networks import MLPDecoder


class Bernoulli(Likelihood):
    r"""$p(x \mid z) = \prod_i \mathrm{Bernoulli}(x_i; \sigma(f(z)_i + b_i))$ for binary pixels.

    The offset b starts at the logit of the training mean (clipped to [0.001, 0.999], Burda et al., 2016), which is
    worth about a nat on binarised MNIST. With a categorical z and no hidden layer this is a mixture of Bernoullis.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, x_shape)``; any module (:mod:`taut.model.building`).
    """

    binary = True

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.decoder = decoder_of(decoder, latent, self.x_shape)
        self.offset = nn.Parameter(torch.zeros(self.x_shape))

    def forward(self, z: Float[Tensor, "*batch d"]) -> "Pixels":
        # itself, not a subclass, whose forward may be another one
        if type(self.decoder) is not MLPDecoder:
            return Pixels(self.decoder(z), self.offset)
        # without the last map, which the density takes in one step with the logarithms
        return Pixels(self.decoder.features(z), self.offset, self.decoder.last)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.offset.copy_(column_mean(x).clamp(0.001, 0.999).logit())

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        invalid = (x != 0) & (x != 1) & ~x.isnan()
        if invalid.any():
            raise UserError(
                f"likelihood=bernoulli needs x in {{0, 1}}, but the data hold {x[invalid][0].item():.6g}; "
                f"for pixels in "
                "[0, 1] set data.binarisation=dynamic, fixed or threshold, for other numbers choose "
                "likelihood=gaussian."
            )
