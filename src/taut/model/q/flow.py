"""Flow as q."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.flow import Flow as FlowDistribution
from taut.model.flow import Couplings
from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, refuse_bounded

CONTEXT = 16
"""Numbers that the encoder tells the flow of each datum."""
LIMIT = 30.0
"""Beyond which a log-variance stays."""


class Flow(Amortised):
    r"""$q(z \mid x)$: a diagonal Gaussian, bent by coupling layers of splines (Durkan et al., 2019).

    $z = m(x) + e^{s(x)/2} \odot T^{-1}(n; h(x))$ with n standard normal: the encoder gives m, s and h, and the flow T,
    one for all x, is told h. Where T is the identity, q is ``diagonal``; it starts near that. It is the inverse of an
    autoregressive flow's trade (Kingma et al., 2016): drawing and scoring cost the same. The log-variance is kept in
    [-30, 30].

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m, s and h.
        transforms: Number of coupling layers.
        hidden: Widths of the hidden layers of their networks.

    Raises:
        UserError: If z has bounds, or zuko is not installed.
    """

    def __init__(
        self,
        joint: Joint,
        x_shape: Sequence[int],
        encoder: Callable[..., nn.Module],
        transforms: int = 2,
        hidden: Sequence[int] = (64,),
    ) -> None:
        d = dimension(joint, "flow")
        refuse_bounded(joint, "flow")
        super().__init__(joint, x_shape, 2 * d + CONTEXT, encoder)
        self.couplings = Couplings(d, CONTEXT, transforms, hidden)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> FlowDistribution:
        d = self.couplings.dim
        mean, log_variance, context = parameters.split([d, d, CONTEXT], -1)
        std = (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
        return FlowDistribution.of(mean, std, context, self.couplings)
