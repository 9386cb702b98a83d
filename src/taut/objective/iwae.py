"""Importance-weighted bound."""

from jaxtyping import Float
from torch import Tensor

from taut.bounds import iwae
from taut.objective.base import Objective
from taut.objective.vimco import score_term
from taut.types import Draws, LogWeights


class Iwae(Objective):
    r"""$L_K = E[\log \frac1K \sum_k w_k]$ (Burda, Grosse & Salakhutdinov, 2016).

    Differentiating the bound itself gives the gradient $\sum_k \tilde w_k \nabla \log w_k$ where draws are
    reparameterised; elsewhere the score-function term of VIMCO is added.
    """

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        log_w = draws.tempered_log_w
        value = iwae(log_w)
        if not draws.q.has_rsample:
            value = value + score_term(log_w, draws.log_qz)
        return -value.mean()
