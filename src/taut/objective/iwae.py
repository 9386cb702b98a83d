"""Importance-weighted bound."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import block_bound, iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, refuse_uneven, require_reparameterised
from taut.objective.vimco import differentiable


class Iwae(Objective):
    r"""$L_K = E[\log \frac1K \sum_k w_k]$ (Burda, Grosse & Salakhutdinov, 2016).

    Differentiating the bound itself gives the gradient $\sum_k \tilde w_k \nabla \log w_k$ where draws are
    reparameterised; elsewhere the score-function term of VIMCO is added. With ``outer`` above 1 it is the mean of M
    such bounds of K/M draws each (Rainforth et al., 2018), a looser bound that leaves q more of its gradient; K stays
    the number of all draws, so that objectives are compared at equal cost.

    Args:
        backward: Go back through all draws, or through so many of them, chosen by their weights: the same gradient
            on average, noisier and cheaper (see ``taut.functional.resampling``).
        outer: M, which divides K.

    Raises:
        UserError: If both are asked for.
    """

    def __init__(self, backward: int | Literal["all"] = "all", outer: int = 1) -> None:
        self.backward = None if backward == "all" else backward
        self.outer = outer
        if outer > 1 and self.backward is not None:
            raise UserError(
                f"objective.backward={backward} chooses draws by their weights in one bound, but "
                f"objective.outer={outer} asks for several; leave one of the two out."
            )

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w) if self.outer == 1 else block_bound(log_w, len(log_w) // self.outer)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        if draws.resampled is not None:
            return -(draws.resampled.weights * draws.tempered_log_w).sum(0).mean()
        return -differentiable(draws, self.bound).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        # first, since with draws of another kind no k would do
        if self.backward is not None:
            require_reparameterised(self, q, x, f"objective.backward={self.backward}")
        super().check(joint, q, k, x)
        refuse_uneven(self, k)
