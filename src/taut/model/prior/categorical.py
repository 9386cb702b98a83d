"""Categorical prior."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, OneHotCategorical, constraints

from taut.model.prior.base import Prior


class Categorical(Prior):
    r"""$p(z = c) = \pi_c$, z one-hot of length C: the cluster of a mixture model.

    Args:
        components: Number of categories C.

    >>> Categorical(4)().probs.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    support = constraints.one_hot

    def __init__(self, components: int) -> None:
        super().__init__()
        self.z_shape = (components,)
        self.logits = nn.Parameter(torch.zeros(components))

    @property
    def probs(self) -> Tensor:
        """The weights, shape ``[C]``."""
        return self.logits.softmax(-1)

    def forward(self) -> OneHotCategorical:
        return OneHotCategorical(logits=self.logits, validate_args=False)

    @property
    def degrees_of_freedom(self) -> int:
        return len(self.logits) - 1

    def statistics(self, posterior: Distribution) -> dict[str, Tensor]:
        return {"counts": posterior.mean.sum(0)}

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        counts = statistics["counts"]
        # no log of 0: the difference of two of them would be NaN
        smallest = torch.finfo(self.logits.dtype).tiny
        self.logits.copy_((counts / counts.sum()).clamp_min(smallest).log())
