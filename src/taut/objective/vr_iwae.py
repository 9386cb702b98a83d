"""Variational Renyi bound of importance weights."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import variational_renyi
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.objective.base import Objective
from taut.objective.vimco import differentiable


class VrIwae(Objective):
    r"""$\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}$ (Daudel, Benton, Shi & Doucet, 2023).

    For $\alpha$ in [0, 1) a lower bound, on the same weights between the ELBO and $L_K$, which $\alpha = 0$ is. Below 0
    it lies above $L_K$ and may lie on either side of $\log p(x)$ (Li & Turner, 2016), so it is reported as an estimate.

    Args:
        alpha: $\alpha$, below 1.

    Raises:
        UserError: If it is not.
    """

    def __init__(self, alpha: float = 0.5) -> None:
        if not -float("inf") < alpha < 1:
            raise UserError(
                f"objective.alpha must be a finite number below 1, got {alpha}; at 1 the limit is objective=elbo."
            )
        self.alpha = alpha
        self.kind: Literal["lower", "estimate"] = "lower" if alpha >= 0 else "estimate"

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return variational_renyi(log_w, self.alpha)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -differentiable(draws, self.bound).mean()
