"""Coupling layers of splines: a flow that is as fast to draw from as to score. The splines are zuko's."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.config.program import extra
from taut.errors import UserError

BINS = 8
"""Pieces of a spline."""
SMALL = 0.01
"""Factor of the last layer of each network at the start, where the flow is nearly the identity."""


class Couplings(nn.Module):
    r"""A bijection $T(\cdot; h)$ of monotone rational-quadratic splines (Durkan, Bekasov, Murray & Papamakarios, 2019).

    The even and the odd coordinates in turn are moved by splines whose knots a network makes of the others and of h, so
    that each direction takes one pass through each network. Splines are the identity outside of [-5, 5]: tails stay
    those of the base. A single coordinate has splines made of h alone. Networks compute in the precision of their
    weights, splines in that of their input.

    Args:
        dim: Number of coordinates d.
        context: Length of h, 1 at least.
        transforms: Number of layers.
        hidden: Widths of the hidden layers of the networks.

    Raises:
        UserError: If zuko is not installed.
    """

    def __init__(self, dim: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        try:
            # here, where it is needed: no other piece pays for the import
            from zuko.transforms import MonotonicRQSTransform
        except ModuleNotFoundError as error:
            raise UserError(f"A flow needs the package zuko: {extra('flow')}") from error
        self._spline = MonotonicRQSTransform
        self.dim = dim
        self.networks = nn.ModuleList()
        for number in range(transforms):
            moved = len(range(self._first(number), dim, 2))
            self.networks.append(_network(dim - moved + context, moved * (3 * BINS - 1), hidden))

    def forward(self, u: Float[Tensor, "*b d"], h: Float[Tensor, "*h c"]) -> tuple[Tensor, Tensor]:
        r"""$T(u; h)$ and $\log |\det T'(u; h)|$; h is repeated along the axes of u that it lacks."""
        total = torch.zeros_like(u[..., 0])
        for number in range(len(self.networks)):
            moved, spline = self._layer(number, u, h)
            values, ladj = spline.call_and_ladj(moved)
            u, total = self._merged(number, u, values), total + ladj.sum(-1)
        return u, total

    def inverse(self, n: Float[Tensor, "*b d"], h: Float[Tensor, "*h c"]) -> Float[Tensor, "*b d"]:
        """The u with T(u; h) = n."""
        for number in reversed(range(len(self.networks))):
            moved, spline = self._layer(number, n, h)
            n = self._merged(number, n, spline.inv(moved))
        return n

    def _first(self, number: int) -> int:
        """The first coordinate that a layer moves: with every second one from there on it is all that moves."""
        return number % min(self.dim, 2)

    def _layer(self, number: int, u: Tensor, h: Tensor) -> tuple[Tensor, Callable]:
        first, network = self._first(number), self.networks[number]
        moved, kept = u[..., first::2], u[..., 1 - first :: 2]
        own = network[0].weight.dtype  # type: ignore[index, union-attr]
        inputs = torch.cat([kept.to(own), h.to(own).expand(*u.shape[:-1], h.shape[-1])], -1)
        knots = network(inputs).to(u.dtype).unflatten(-1, (moved.shape[-1], 3 * BINS - 1))
        return moved, self._spline(*knots.split([BINS, BINS, BINS - 1], -1))

    def _merged(self, number: int, u: Tensor, moved: Tensor) -> Tensor:
        first = self._first(number)
        merged = torch.empty_like(u)
        merged[..., first::2], merged[..., 1 - first :: 2] = moved, u[..., 1 - first :: 2]
        return merged


def _network(inputs: int, outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    widths = [inputs, *hidden, outputs]
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.Tanh())][:-1]
    with torch.no_grad():
        for parameter in layers[-1].parameters():
            parameter.mul_(SMALL)
    return nn.Sequential(*layers)
