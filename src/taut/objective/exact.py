"""Gradient of the exact log-likelihood."""

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective


class Exact(Objective):
    r"""$\log p(x)$ itself, by gradient.

    Under q = posterior, $\log w = \log p(x, z) - \log p(z \mid x) = \log p(x)$ for every z, as an identity in the
    parameters: its gradient is that of $\log p(x)$, without noise.
    """

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -draws.log_w.mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        del joint, x
        require_exact(self, q, k)


def require_exact(objective: Objective, q: Posterior, k: int) -> None:
    """Refuse any q but the posterior, and more samples than one.

    Raises:
        UserError: Naming the way out.
    """
    if not q.exact:
        raise UserError(
            f"objective={objective.name} needs q=exact, the model's own posterior, but "
            f"q={type(q).__name__.lower()} was given; "
            "set q=exact, or objective=iwae with k >= 2."
        )
    if k != 1:
        raise UserError(
            f"objective={objective.name} uses the exact log p(x) and draws no importance samples, so k={k} has "
            f"no meaning; "
            f"leave k at 1, or choose q=categorical objective=iwae k={k}."
        )
