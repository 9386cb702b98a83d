"""Doubly reparameterised gradients."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import iwae, normalised_weights
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, require_reparameterised


class Dreg(Objective):
    r"""IWAE-K with the unbiased low-variance gradient for q (Tucker, Lawson, Gu & Maddison, 2019).

    $\nabla_\phi L_K = E[\sum_k \tilde w_k^2\, \nabla_z \log w_k\, \nabla_\phi z_k]$, while $\theta$ keeps $\sum_k
    \tilde w_k \nabla_\theta \log w_k$. One backward pass gives both: a hook on z multiplies what arrives there,
    already weighted by $\tilde w_k$, once more by $\tilde w_k$ (under a KL weight $\beta$: by $1 - \beta + \beta
    \tilde w_k$).

    Args:
        backward: Go back through all draws, or through so many of them, chosen by their weights (see
            ``taut.functional.resampling``).
    """

    path_only = True

    def __init__(self, backward: int | Literal["all"] = "all") -> None:
        self.backward = None if backward == "all" else backward

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        log_w = draws.tempered_log_w
        resampled = draws.resampled
        normalised = normalised_weights(log_w.detach()) if resampled is None else resampled.normalised
        weights = normalised if resampled is None else resampled.weights
        # torch refuses a hook on a tensor without a gradient, as in a pass that only validates
        if draws.z.requires_grad:
            factor = 1 - draws.kl_weight + draws.kl_weight * normalised
            event = factor.reshape(*weights.shape, *[1] * (draws.z.dim() - weights.dim()))
            draws.z.register_hook(lambda gradient: gradient * event)
        return -(weights * log_w).sum(0).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        require_reparameterised(self, q, x)
        # the weight of a draw would depend on its component, and the score of q would no longer vanish on average
        if q.stratified and k > 1:
            raise UserError(
                f"objective=dreg needs independent draws, but q={type(q).__name__.lower()} draws from its components "
                "in turn; choose objective=iwae or stl, or q.components=1."
            )
