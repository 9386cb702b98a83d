"""Gaussian likelihood with a network."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.diagonal_gaussian import MOST, Heads
from taut.functional.missing import column_mean, column_scale, is_constant
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood
from taut.model.likelihood.per_cell import limits_of


class Gaussian(Likelihood):
    r"""$p(x \mid z) = N(x; \mu + s \odot f(z),\ s^2 \odot v(z))$ with a diagonal covariance.

    $\mu$ and s are the mean and standard deviation of the training rows, so the network works in units of the data;
    the density is that of x itself, in nats. $v = v_{\min} + e^{g(z)}$: the floor $v_{\min}$ keeps the likelihood
    bounded.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; any module (:mod:`taut.model.building`). The heads f and g
            lie along the first axis of its output, which is twice as long as that of x.
        shared: Learn variances that do not depend on z instead of a network g: one for all coordinates (``True``), or
            one for each (``columns``).
        min_variance: The floor $v_{\min}$, as a fraction of each coordinate's variance.
    """

    shift: Tensor
    scale: Tensor
    constant: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        *,
        shared: bool | Literal["columns"] = False,
        min_variance: float = 1e-4,
    ) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.min_variance = min_variance
        self.shared = shared
        heads, (first, *others) = 1 if shared else 2, self.x_shape
        self.decoder = decoder_of(decoder, latent, (heads * first, *others))
        self.offset = nn.Parameter(torch.zeros(heads, *self.x_shape))
        if shared:
            self.log_variance = nn.Parameter(torch.zeros(self.x_shape if shared == "columns" else ()))
        self.register_buffer("shift", torch.zeros(self.x_shape, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.x_shape, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(self.x_shape, dtype=torch.bool))

    def forward(self, z: Float[Tensor, "*batch d"]) -> Heads:
        axes = len(self.x_shape)
        output = self.decoder(z).unflatten(-axes, (len(self.offset), self.x_shape[0]))
        heads = (output + self.offset).unbind(-1 - axes)
        log_variance = self.log_variance.expand_as(heads[0]) if self.shared else heads[1]
        return Heads(heads[0], log_variance, self.shift, self.scale, self.min_variance)

    @torch.no_grad()
    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        return limits_of(
            self(z).g.double().flatten(-len(self.x_shape)).flatten(0, -2),
            most=MOST,
            floor=self.min_variance,
            key="min_variance",
            constant=int(self.constant.sum()),
            what=("variance", "variance"),
        )

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.shift.copy_(column_mean(x))
        self.scale.copy_(column_scale(x))
        self.constant.copy_(is_constant(x))
