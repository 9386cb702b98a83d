"""Layers of Gaussians, drawn one after another."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from taut.distributions.from_noise import FromNoise
from taut.distributions.gaussian import Gaussian

Conditional = Callable[[Tensor, Tensor], Gaussian]
"""From the layer drawn before, ``[..., *batch, d]``, and the context ``[*batch, c]`` to the Gaussian of the next."""


class Chain(FromNoise):
    r"""The distribution of $z = (h_1, \dots, h_L)$, concatenated, whose layers are drawn in turn, upwards or downwards.

    Upwards, $h_1$ is drawn first: $\log p(z) = \log p(h_1) + \sum_{l > 1} \log p(h_l \mid h_{l-1})$. Downwards, $h_L$
    is: $\log p(z) = \log p(h_L) + \sum_{l < L} \log p(h_l \mid h_{l+1})$. Every factor is a diagonal Gaussian. The mean
    of z has no closed form.
    """

    loc: Tensor
    scale: Tensor
    context: Tensor
    conditionals: tuple[Conditional, ...]
    order: tuple[int, ...]
    places: tuple[slice, ...]

    @classmethod
    def of(
        cls,
        sizes: Sequence[int],
        loc: Tensor,
        scale: Tensor,
        context: Tensor,
        conditionals: Sequence[Conditional],
        *,
        downwards: bool,
    ) -> "Chain":
        """The chain of these layers.

        Args:
            sizes: Coordinates of each layer, from $h_1$ on.
            loc: Mean of the layer that is drawn first, ``[*batch, d]``.
            scale: Its standard deviation.
            context: What the others are told beside the layer before them, ``[*batch, c]``.
            conditionals: Those of the others, in the order in which they are drawn.
            downwards: Whether $h_L$ is the first, or $h_1$.
        """
        noise = torch.promote_types(loc.dtype, torch.float32)
        made = cls(loc.shape[:-1], sum(sizes), noise, loc=loc, scale=scale, context=context)
        made.conditionals = tuple(conditionals)
        made.order = tuple(reversed(range(len(sizes))) if downwards else range(len(sizes)))
        made.places = tuple(slice(*ends) for ends in pairwise(accumulate(sizes, initial=0)))
        return made

    def from_noise(self, noise: Float[Tensor, "k *batch d"]) -> Float[Tensor, "k *batch d"]:
        layers: dict[int, Tensor] = {}
        before = None
        for place, conditional in self._in_turn():
            own = noise[..., self.places[place]].to(self.loc.dtype)
            gaussian = self._gaussian(conditional, before).base_dist
            before = layers[place] = torch.addcmul(gaussian.loc, own, gaussian.scale)
        return torch.cat([layers[place] for place in range(len(layers))], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        first, *others = self._log_probs(value)
        # one after another: the sum of one layer is that layer itself, to the bit
        return sum(others, first)

    def log_prob_of_layers(self, value: Tensor) -> Float[Tensor, "layers *n"]:
        r"""The terms of :meth:`log_prob`, that of $h_1$ first, nats."""
        by_place = dict(zip(self.order, self._log_probs(value), strict=True))
        return torch.stack([by_place[place] for place in range(len(by_place))])

    @property
    def mean(self) -> Tensor:
        """Refused, as torch has it for distributions that do not know their mean."""
        raise NotImplementedError("a chain of layers has no mean in closed form")

    def _in_turn(self) -> list[tuple[int, Conditional | None]]:
        return list(zip(self.order, (None, *self.conditionals), strict=True))

    def _gaussian(self, conditional: Conditional | None, before: Tensor | None) -> Gaussian:
        if conditional is None or before is None:
            return Gaussian.of(self.loc, self.scale)
        return conditional(before, self.context)

    def _log_probs(self, value: Tensor) -> list[Tensor]:
        before, terms = None, []
        for place, conditional in self._in_turn():
            layer = value[..., self.places[place]]
            terms.append(self._gaussian(conditional, before).log_prob(layer))
            before = layer
        return terms
