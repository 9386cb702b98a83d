"""The prior as q."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.errors import UserError
from taut.model.joint import Joint
from taut.model.prior.vamp import Vamp
from taut.model.q.base import Posterior


class Prior(Posterior):
    r"""$q(z \mid x) = p(z)$: likelihood weighting, naive Monte Carlo. Nothing is learned about the posterior.

    Args:
        joint: The model.
        x_shape: Shape of one datum.

    Raises:
        UserError: If the prior is itself made of q.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int]) -> None:
        super().__init__(joint, x_shape)
        # q would ask the prior for its distribution, and the prior q, without end
        if isinstance(joint.prior, Vamp):
            raise UserError(
                "q=prior needs a prior that stands on its own, but prior=vamp is made of q; choose prior=normal."
            )

    @property
    def learned(self) -> bool:
        return any(True for _ in self.joint.prior.parameters())

    def forward(self, x: Float[Tensor, "b *x"]) -> Distribution:
        prior = self.joint.prior()
        return prior.expand((len(x),))
