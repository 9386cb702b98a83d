"""Importance-weighted bound."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.functional.bounds import iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, require_reparameterised
from taut.objective.vimco import score_term


class Iwae(Objective):
    r"""$L_K = E[\log \frac1K \sum_k w_k]$ (Burda, Grosse & Salakhutdinov, 2016).

    Differentiating the bound itself gives the gradient $\sum_k \tilde w_k \nabla \log w_k$ where draws are
    reparameterised; elsewhere the score-function term of VIMCO is added.

    Args:
        backward: Go back through all draws, or through so many of them, chosen by their weights: the same gradient
            on average, noisier and cheaper (see ``taut.functional.resampling``).
    """

    def __init__(self, backward: int | Literal["all"] = "all") -> None:
        self.backward = None if backward == "all" else backward

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        log_w = draws.tempered_log_w
        if draws.resampled is not None:
            return -(draws.resampled.weights * log_w).sum(0).mean()
        value = iwae(log_w)
        if not draws.q.has_rsample:
            value = value + score_term(log_w, draws.log_qz)
        return -value.mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        if self.backward is not None:
            require_reparameterised(self, q, x)
