"""Heavy-tailed q."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from taut.distributions.from_noise import StudentT as StudentTDistribution
from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, refuse_bounded

LEAST_DF = 3.0
"""Degrees of freedom above which a coordinate stays: below 2 it has no variance, and its draws no scale."""
LIMIT = 30.0
"""Beyond which the logarithm of a squared scale stays."""


class StudentT(Amortised):
    r"""$q(z \mid x) = \prod_i t_{\nu_i(x)}((z_i - m_i(x)) / s_i(x)) / s_i(x)$ (Mattei & Frellsen, 2019).

    Its tails are heavier than those of most posteriors, so that the weights keep a variance where a Gaussian's lose it
    in the tails. A q that is too narrow in the middle still has large weights, and its k-hat shows it. The degrees of
    freedom are learned: $\nu_i = 3 + \mathrm{softplus}$ of an output of the network, for each coordinate and datum.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m, log s² and the degrees of freedom.

    Raises:
        UserError: If z has bounds, which heavy tails would crowd.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        d = dimension(joint, "student_t")
        refuse_bounded(joint, "student_t")
        super().__init__(joint, x_shape, 3 * d, encoder)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> StudentTDistribution:
        loc, log_square, freedom = parameters.chunk(3, -1)
        scale = (0.5 * log_square.clamp(-LIMIT, LIMIT)).exp()
        return StudentTDistribution.of(LEAST_DF + softplus(freedom), loc, scale)
