"""Uniform q."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.distributions import Uniform as TorchUniform

from taut.distributions.categories import uniform_over
from taut.errors import UserError
from taut.model.joint import Joint
from taut.model.prior.uniform import Uniform as UniformPrior
from taut.model.q.base import Posterior


class Uniform(Posterior):
    r"""z uniform over the categories, or over the box $[l, h]^d$: the first idea one has, and it fails in practice.

    Where the prior reaches beyond the box, the part of $p(x)$ outside is lost: still a lower bound.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        low: Lower end l of every side of the box.
        high: Upper end h of every side of the box.

    Raises:
        UserError: If the box reaches beyond that of a uniform prior.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], low: float = -3.0, high: float = 3.0) -> None:
        super().__init__(joint, x_shape)
        self.low, self.high = low, high
        prior = joint.prior
        if (
            isinstance(prior, UniformPrior)
            and not prior.discrete
            and (low < prior.low.min() or high > prior.high.max())
        ):
            raise UserError(
                f"q=uniform on [{low}, {high}] reaches beyond prior=uniform on [{prior.low.min():g}, "
                f"{prior.high.max():g}], where the model has no mass; set q.low and q.high to the prior's."
            )

    def forward(self, x: Float[Tensor, "b *x"]) -> Distribution:
        size = (len(x), *self.joint.prior.z_shape)
        if self.joint.prior.discrete:
            return uniform_over(self.joint.prior(), x.new_zeros(size))
        low = torch.full(size, self.low, dtype=x.dtype, device=x.device)
        return Independent(TorchUniform(low, low + (self.high - self.low), validate_args=False), 1)
