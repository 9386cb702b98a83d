"""Amortised q of independent categories."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.categories import Categories
from taut.errors import UserError
from taut.model.joint import Joint
from taut.model.prior.categoricals import Categoricals as Prior
from taut.model.q.base import Amortised


class Categoricals(Amortised):
    r"""$q(z \mid x) = \prod_{j=1}^D \mathrm{softmax}(f_j(x))_{z_j}$, D one-hot vectors of C values side by side.

    Draws carry no gradient, so objectives take the score function, with leave-one-out baselines.

    Args:
        joint: A model whose z is made of categories.
        x_shape: Shape of one datum.
        encoder: Builds the network f.

    Raises:
        UserError: If z is not made of categories.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        prior = joint.prior
        if not isinstance(prior, Prior):
            raise UserError(
                f"q=categoricals is for a z of several categories, which prior={type(prior).__name__.lower()} does not "
                "make it; choose prior=categoricals."
            )
        super().__init__(joint, x_shape, prior.logits.numel(), encoder)
        self.size = tuple(prior.logits.shape)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Categories:
        return Categories.of(parameters.unflatten(-1, self.size))
