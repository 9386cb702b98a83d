"""VampPrior."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from taut.holes import filled, mean_filled
from taut.prior.base import Prior


class Vamp(Prior):
    r"""$p(z) = \frac1C \sum_c q(z \mid u_c)$ with learned pseudo-inputs $u_c$ (Tomczak & Welling, 2018).

    The pseudo-inputs start at training rows and stay inside the range of the training values.

    Args:
        dim: Number of latent coordinates d.
        components: Number of pseudo-inputs C.
        x_shape: Shape of one datum.
    """

    low: Tensor
    high: Tensor

    def __init__(self, dim: int, components: int, x_shape: Sequence[int]) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *x_shape))
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        rows = torch.randint(len(x), (len(self.pseudo_inputs),))
        self.pseudo_inputs.copy_(mean_filled(x)[rows])
        self.low.copy_(filled(x, torch.inf).min())
        self.high.copy_(filled(x, -torch.inf).max())

    def attach(self, q: Callable[[Tensor], Distribution]) -> None:
        self._q = (q,)  # inside a tuple, so that q's parameters stay registered in one place only

    def forward(self) -> MixtureSameFamily:
        u = self.pseudo_inputs
        inside = u + (u.clamp(self.low, self.high) - u).detach()  # a clamp whose gradient still leads back inside
        components = self._q[0](inside)
        weights = Categorical(logits=self.pseudo_inputs.new_zeros(len(self.pseudo_inputs)), validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)
