"""Gaussian q of several stochastic layers, drawn from the top."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.chain import Chain
from taut.model.joint import Joint
from taut.model.layers import LIMIT, Merged
from taut.model.prior.layers import Layers
from taut.model.q.base import Amortised, layers_of


class Ladder(Amortised):
    r"""$q(z \mid x) = q(h_L \mid x) \prod_{l < L} q(h_l \mid h_{l+1}, x)$ (Sønderby et al., 2016).

    The encoder sends every layer a message, $N(m_l(x), \mathrm{diag}\, e^{s_l(x)})$. That of the top is its q; below,
    q is proportional to the message times the prior's own $p(h_l \mid h_{l+1})$, as the posterior is where the message
    is the likelihood of $h_l$. The networks between layers are the prior's, which are thereby trained by both. Unlike
    the published encoder, in which the message of every layer is a head of a deeper one, all are heads of one network.

    Args:
        joint: A model of several layers.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives the messages.

    Raises:
        UserError: If z has no layers.
    """

    layered = True

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        self.sizes = layers_of(joint, "ladder")
        super().__init__(joint, x_shape, 2 * sum(self.sizes), encoder)

    @property
    def borrowed(self) -> nn.Module:
        return self.joint.prior

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Chain:
        prior = self.joint.prior
        assert isinstance(prior, Layers)
        top = 2 * self.sizes[-1]
        (mean, log_variance), context = parameters[..., :top].chunk(2, -1), parameters[..., top:]
        places = pairwise(accumulate((2 * size for size in reversed(self.sizes[:-1])), initial=0))
        merged = [Merged(between, slice(*ends)) for between, ends in zip(prior.between, places, strict=True)]
        std = (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
        return Chain.of(self.sizes, mean, std, context, merged, downwards=True)
