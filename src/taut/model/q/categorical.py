"""Amortised categorical q."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from taut.errors import UserError
from taut.model.joint import Joint
from taut.model.q.base import Amortised


class Categorical(Amortised):
    r"""$q(z = c \mid x) = \mathrm{softmax}(f(x))_c$, z one-hot: a network in place of the responsibilities.

    Args:
        joint: A model with a categorical z.
        x_shape: Shape of one datum.
        encoder: Builds the network f.

    Raises:
        UserError: If z is continuous.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        if joint.prior.factored:
            kind, way = ("binary", "bernoulli") if joint.prior.binary else ("several", "categoricals")
            raise UserError(
                f"q=categorical is for a z that is one category, but prior={type(joint.prior).__name__.lower()} makes "
                f"it {kind}; choose q={way}, or prior=categorical."
            )
        if not joint.prior.discrete:
            raise UserError(
                f"q=categorical is for a z that is a category, but prior={type(joint.prior).__name__.lower()} makes it "
                "continuous; choose q=diagonal or q=full, or prior=categorical."
            )
        super().__init__(joint, x_shape, joint.prior.z_shape[0], encoder)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> OneHotCategorical:
        return OneHotCategorical(logits=parameters, validate_args=False)
