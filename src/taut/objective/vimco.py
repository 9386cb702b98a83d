"""VIMCO."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from taut.functional.bounds import iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, leave_one_out, mean_of_others, require_score


class Vimco(Objective):
    r"""IWAE-K by the score function with a leave-one-out control variate (Mnih & Rezende, 2016).

    $\nabla L_K = E[\sum_k (\hat L - \hat L_{-k}) \nabla \log q(z_k) + \sum_k \tilde w_k \nabla \log w_k]$, where
    $\hat L_{-k}$ replaces $\log w_k$ by the mean of the other log-weights. Needs no reparameterisation, so z may be a
    category.
    """

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -differentiable(draws, iwae).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        require_score(self, q, k, x, "objective=iwae or dreg")


def score_term(log_w: LogWeights, log_qz: LogWeights, bound: Callable[[Tensor], Tensor] = iwae) -> Float[Tensor, " b"]:
    r"""$\sum_k \mathrm{stop}(\hat L - \hat L_{-k}) \log q(z_k)$ for each datum, of any bound $\hat L$ of weights."""
    log_w = log_w.detach()
    k = log_w.shape[0]
    replaced = log_w.expand(k, *log_w.shape).clone()  # [k, k, b]: row i has entry i replaced
    rows = range(k)
    replaced[rows, rows] = mean_of_others(log_w)
    baseline = bound(replaced.transpose(0, 1).flatten(1)).view_as(log_w)
    return leave_one_out(bound(log_w).expand_as(log_w), baseline, log_qz)


def differentiable(draws: Draws, bound: Callable[[Tensor], Tensor]) -> Float[Tensor, " b"]:
    """A bound of the draws' tempered weights, with a gradient that is right on average.

    Where draws are reparameterised it is the bound's own; elsewhere the score-function term is added.
    """
    log_w = draws.tempered_log_w
    return bound(log_w) if draws.q.has_rsample else bound(log_w) + score_term(log_w, draws.log_qz, bound)
