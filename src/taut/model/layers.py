"""What stands between two stochastic layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.gaussian import Gaussian
from taut.functional.precision import in_double
from taut.model.networks import MLPEncoder

LIMIT = 30.0
"""Beyond which a log-variance stays."""


class Between(nn.Module):
    r"""$N(h; m(h'), \mathrm{diag}\, e^{s(h')})$: a layer given the one next to it, by an MLP; s is kept in [-30, 30].

    Args:
        given: Coordinates of the layer $h'$.
        size: Coordinates of the layer h.
        hidden: Widths of the hidden layers of the MLP.
        activation: Its activation.
    """

    def __init__(self, given: int, size: int, hidden: Sequence[int], activation: str) -> None:
        super().__init__()
        self.network = MLPEncoder((given,), 2 * size, hidden=hidden, activation=activation)

    def forward(self, given: Float[Tensor, "... g"], context: Tensor) -> Gaussian:
        """The Gaussian, in float64 as all of z; the context of a chain has no say."""
        del context
        mean, log_variance = self.network(given).chunk(2, -1)
        return in_double(Gaussian.of(mean, (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()))


class Merged:
    r"""The product of two Gaussians of a layer h, of what the prior says of it and of what x does.

    With $p(h \mid h') = N(m_p, v_p)$ and the message of x $N(m_x, v_x)$ the product is proportional to $N(m, v)$,
    $1 / v = 1 / v_p + 1 / v_x$ and $m = v\, (m_p / v_p + m_x / v_x)$ (Sønderby et al., 2016).

    Args:
        prior: From $h'$ to $p(h \mid h')$.
        place: Where the message, $m_x$ and $\log v_x$, is in the context.
    """

    def __init__(self, prior: nn.Module, place: slice) -> None:
        self.prior, self.place = prior, place

    def __call__(self, given: Float[Tensor, "... g"], context: Float[Tensor, "*batch c"]) -> Gaussian:
        prior = self.prior(given, context).base_dist
        mean, log_variance = context[..., self.place].chunk(2, -1)
        log_variance = log_variance.clamp(-LIMIT, LIMIT)
        # v_p / (v_p + v_x): by a sigmoid of logarithms, which no variance of the two is too small for
        of_message = (2 * prior.scale.log() - log_variance).sigmoid()
        std = (0.5 * log_variance).exp() * of_message.sqrt()
        return Gaussian.of(torch.lerp(prior.loc, mean.expand_as(prior.loc), of_message), std)
