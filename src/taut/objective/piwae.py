"""Partially importance-weighted autoencoder."""

import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional.bounds import iwae, normalised_weights
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, refuse_uneven, require_paths


class Piwae(Objective):
    r"""$L_K$ for the model, the mean of M bounds of K/M draws each for q, on the same draws (Rainforth et al., 2018).

    $\nabla_\theta = \sum_k \tilde w_k \nabla_\theta \log w_k$ with weights among all draws, and $\nabla_\phi = \frac1M
    \sum_k \tilde v_k \nabla_\phi \log w_k$ with weights among the K/M of the same bound: the tight bound trains the
    model, and q gets the gradient that stands out of its noise. What is reported is $L_K$. A prior that is made of q
    belongs to the model.

    Args:
        outer: M, which divides K. With 1 this is ``objective=iwae``.
    """

    def __init__(self, outer: int) -> None:
        self.outer = outer

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        log_w = draws.tempered_log_w.detach()
        of_model = normalised_weights(log_w)
        of_q = torch.cat([normalised_weights(part) for part in log_w.chunk(self.outer)]) / self.outer
        log_joint = draws.log_px + draws.kl_weight * draws.log_pz
        value = -(of_model * log_joint - of_q * draws.kl_weight * draws.log_qz).sum(0).mean()
        if not draws.z.requires_grad:  # a pass that only validates
            return value
        # through z the joint must reach q with the weights of q. Once more back to z, and no hook on it: a draw with
        # no weight among all may have one in its own bound, and what is scaled later must scale this as well
        missing = -((of_q - of_model) * log_joint).sum(0).mean()
        (by_z,) = torch.autograd.grad(missing, draws.z, retain_graph=True)
        return value + (by_z * draws.z).sum()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        require_paths(self, q, x)
        refuse_uneven(self, k)
