"""Categorical likelihood with a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.levels import Categories
from taut.functional.missing import observed
from taut.model.likelihood.of_levels import OfLevels


class Categorical(OfLevels):
    r"""$p(x \mid z) = \prod_i \mathrm{softmax}(f(z)_i + b_i)_{v_i}$: a probability for each level v of each cell.

    For columns of categories 0, 1, ..., L - 1, whose order means nothing, and for pixels of few grey levels (van den
    Oord et al., 2016): the network has L outputs for each. The offset b starts at the frequencies of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the L heads lie along the first axis of its output.
        levels: Number of levels L; one for each column; or what grey levels stand for
            (:class:`~taut.model.likelihood.of_levels.OfLevels`).
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        levels: int | Sequence[int] | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(x_shape, latent, decoder, levels, lambda count: count, "categorical")

    def cells(self, heads: Float[Tensor, "l *cells"]) -> Categories:
        level = torch.arange(self.levels.count, device=heads.device)
        # levels that a column does not have
        impossible = level > self.highest.unsqueeze(-1)
        return Categories(heads.movedim(0, -1).masked_fill(impossible, -torch.inf), self.levels)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        v, known = self.levels.encode(x), observed(x).sum(0)
        for level, offset in enumerate(self.offset):
            # half a row more of each level, so that none is impossible
            share = ((v == level).sum(0) + 0.5) / (known + 0.5 * self.levels.count)
            offset.copy_(share.log())
