"""REINFORCE."""

from jaxtyping import Float
from torch import Tensor

from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import require_score
from taut.objective.elbo import Elbo


class Reinforce(Elbo):
    r"""The ELBO by its score function, each draw against the mean of the others (Williams, 1992; Kool et al., 2019).

    $\frac1K \sum_k [(\log w_k - \frac{1}{K-1} \sum_{j \ne k} \log w_j) \nabla \log q(z_k) + \nabla \log w_k]$:
    what :class:`~taut.objective.elbo.Elbo` does wherever draws carry no gradient, under its own name.
    """

    def __init__(self) -> None:
        super().__init__(kl="sampled")

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        require_score(self, q, k, x, "objective=elbo")
