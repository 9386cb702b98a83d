"""Sticking the landing."""

from jaxtyping import Float
from torch import Tensor

from taut.functional.bounds import iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, require_reparameterised


class Stl(Objective):
    r"""IWAE-K whose gradient drops the score of q: $\sum_k \tilde w_k \nabla_z \log w_k\, \nabla_\phi z_k$.

    Roeder et al. (2017). The variance of q's gradient is exactly 0 where q is the posterior. Unbiased for K = 1;
    biased for K > 1 (Tucker et al., 2019), where ``objective=dreg`` is the unbiased choice.
    """

    path_only = True

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -iwae(draws.tempered_log_w).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        require_reparameterised(self, q, x)
