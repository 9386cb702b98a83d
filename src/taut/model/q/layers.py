"""Gaussian q of several stochastic layers, drawn from below."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.chain import Chain
from taut.model.joint import Joint
from taut.model.layers import LIMIT, Between
from taut.model.q.base import Amortised, layers_of


class Layers(Amortised):
    r"""$q(z \mid x) = q(h_1 \mid x) \prod_{l > 1} q(h_l \mid h_{l-1})$, every factor a diagonal Gaussian by a network.

    Burda, Grosse & Salakhutdinov (2016). Only the first layer sees x; the networks above are the same for all x. All
    log-variances are kept in [-30, 30]. With one layer, ``diagonal``.

    Args:
        joint: A model of several layers.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives mean and log-variance of the first layer.
        hidden: Widths of the hidden layers of the networks between layers.
        activation: Their activation.

    Raises:
        UserError: If z has no layers.
    """

    layered = True

    def __init__(
        self,
        joint: Joint,
        x_shape: Sequence[int],
        encoder: Callable[..., nn.Module],
        hidden: Sequence[int] = (100, 100),
        activation: str = "tanh",
    ) -> None:
        sizes = layers_of(joint, "layers")
        super().__init__(joint, x_shape, 2 * sizes[0], encoder)
        self.between = nn.ModuleList([Between(below, above, hidden, activation) for below, above in pairwise(sizes)])

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Chain:
        mean, log_variance = parameters.chunk(2, -1)
        std = (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
        nothing = parameters[..., :0]
        return Chain.of(self.joint.prior.layers, mean, std, nothing, list(self.between), downwards=False)
