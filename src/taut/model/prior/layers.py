"""Prior of several stochastic layers."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from taut.distributions.chain import Chain
from taut.model.layers import Between
from taut.model.prior.base import Prior


class Layers(Prior):
    r"""$p(z) = N(h_L; 0, I) \prod_{l < L} N(h_l; m_l(h_{l+1}), \mathrm{diag}\, e^{s_l(h_{l+1})})$.

    z is $h_1, \dots, h_L$, concatenated, and the likelihood sees $h_1$ alone. Of two layers this is the second model of
    Burda, Grosse & Salakhutdinov (2016), who have 100 and 50 coordinates, and two hidden layers of 100 units between
    them. One layer is ``prior=normal``.

    Args:
        sizes: Coordinates of each layer, from that which x is made of to the top.
        hidden: Widths of the hidden layers of the networks between them.
        activation: Their activation.

    >>> Layers([3, 2])().event_shape
    torch.Size([5])
    """

    layered = True
    zeros: Tensor
    ones: Tensor
    nothing: Tensor

    def __init__(self, sizes: Sequence[int], hidden: Sequence[int] = (100, 100), activation: str = "tanh") -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.z_shape = (sum(sizes),)
        downwards = pairwise(reversed(self.sizes))
        self.between = nn.ModuleList([Between(above, below, hidden, activation) for above, below in downwards])
        # constants need no place in a checkpoint
        self.register_buffer("zeros", torch.zeros(self.sizes[-1]), persistent=False)
        self.register_buffer("ones", torch.ones(self.sizes[-1]), persistent=False)
        self.register_buffer("nothing", torch.zeros(0), persistent=False)

    @property
    def layers(self) -> tuple[int, ...]:
        return self.sizes

    def forward(self) -> Chain:
        return Chain.of(self.sizes, self.zeros, self.ones, self.nothing, list(self.between), downwards=True)
