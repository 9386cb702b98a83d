"""Amortised q of independent bits."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.bits import Bits
from taut.errors import UserError
from taut.model.joint import Joint
from taut.model.q.base import Amortised


class Bernoulli(Amortised):
    r"""$q(z \mid x) = \prod_j \mathrm{Bernoulli}(z_j; \sigma(f_j(x)))$, z in {0, 1}^d.

    Draws carry no gradient, so objectives take the score function, with leave-one-out baselines (Mnih & Rezende, 2016).

    Args:
        joint: A model whose z is binary.
        x_shape: Shape of one datum.
        encoder: Builds the network f.

    Raises:
        UserError: If z is not binary.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        if not joint.prior.binary:
            raise UserError(
                f"q=bernoulli is for a binary z, which prior={type(joint.prior).__name__.lower()} does not make it; "
                "choose prior=bernoulli."
            )
        super().__init__(joint, x_shape, joint.prior.z_shape[0], encoder)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Bits:
        return Bits.of(parameters)
