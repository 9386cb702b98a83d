"""VampPrior."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from taut.functional.missing import column_mean, column_scale, filled, mean_filled
from taut.model.prior.base import Prior


class Vamp(Prior):
    r"""$p(z) = \sum_c \pi_c\, q(z \mid u_c)$ with learned pseudo-inputs $u_c$ (Tomczak & Welling, 2018).

    The pseudo-inputs start at training rows and stay inside the range of the training values. They are learned in
    units of each column of a table, from its mean, and as they are where x is an image.

    Args:
        dim: Number of latent coordinates d.
        components: Number of pseudo-inputs C.
        x_shape: Shape of one datum.
        learn_weights: Learn the weights $\pi_c$, or keep them at 1/C as published.
    """

    logits: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(self, dim: int, components: int, x_shape: Sequence[int], *, learn_weights: bool = False) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *x_shape))
        if learn_weights:
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            # constants need no place in a checkpoint
            self.register_buffer("logits", torch.zeros(components), persistent=False)
        for name, start in {"low": 0.0, "high": 1.0}.items():
            self.register_buffer(name, torch.tensor(start, dtype=torch.float64))
        for name, start in {"centre": 0.0, "unit": 1.0}.items():
            self.register_buffer(name, torch.full(tuple(x_shape), start, dtype=torch.float64))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        rows = torch.randint(len(x), (len(self.pseudo_inputs),))
        if x.dim() == 2:
            self.centre.copy_(column_mean(x))
            self.unit.copy_(column_scale(x))
        self.pseudo_inputs.copy_((mean_filled(x)[rows] - self.centre) / self.unit)
        self.low.copy_(filled(x, torch.inf).min())
        self.high.copy_(filled(x, -torch.inf).max())

    def attach(self, q: Callable[[Tensor], Distribution]) -> None:
        self._q = (q,)  # inside a tuple, so that q's parameters stay registered in one place only

    def forward(self) -> MixtureSameFamily:
        u = self.centre + self.unit * self.pseudo_inputs if self.centre.dim() == 1 else self.pseudo_inputs
        inside = u + (u.clamp(self.low, self.high) - u).detach()  # a clamp whose gradient still leads back inside
        components = self._q[0](inside)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)
