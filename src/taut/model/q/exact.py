"""The model's own posterior as q."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.errors import UserError
from taut.model.exact_inference import posterior, tractable
from taut.model.joint import Joint
from taut.model.prior.vamp import Vamp
from taut.model.q.base import Posterior


class Exact(Posterior):
    r"""$q(z \mid x) = p(z \mid x)$: the best q there is. Every log-weight equals $\log p(x)$ and the gap is 0.

    Args:
        joint: A model whose posterior is known (see :mod:`taut.model.exact_inference`).
        x_shape: Shape of one datum.

    Raises:
        UserError: If the posterior of this model has no closed form.
    """

    exact = True

    def __init__(self, joint: Joint, x_shape: Sequence[int]) -> None:
        super().__init__(joint, x_shape)
        # q would ask the prior for its distribution, and the prior q, without end
        if isinstance(joint.prior, Vamp):
            raise UserError(
                "q=exact needs a prior that stands on its own, but prior=vamp is made of q; choose prior=mixture."
            )
        if not tractable(joint):
            # called for its error, which says what this model lacks
            posterior(joint, next(joint.parameters()).new_zeros(1, *self.x_shape))

    def forward(self, x: Float[Tensor, "b *x"]) -> Distribution:
        return posterior(self.joint, x)
