"""An objective of your own: between the ELBO and the importance-weighted bound."""

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import elbo, iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, require_reparameterised


class Mine(Objective):
    r"""$\beta\, \mathrm{ELBO} + (1 - \beta) L_K$: the CIWAE of Rainforth et al. (2018), a bound for every beta.

    ``bound`` is what is reported, in nats for each datum, from the log-weights ``[k, b]``, sample axis first.
    ``surrogate`` is what is minimised: a scalar whose gradient is that of the negative bound on average, and whose
    value means nothing. ``check`` refuses, with a ``UserError``, what this gradient is not right for; here draws that
    are not reparameterised.

    Args:
        beta: Weight of the ELBO, in [0, 1].
    """

    def __init__(self, beta: float = 0.5) -> None:
        if not 0 <= beta <= 1:
            raise UserError(f"objective.beta={beta} must lie in [0, 1].")
        self.beta = beta

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return self.beta * elbo(log_w) + (1 - self.beta) * iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -self.bound(draws.tempered_log_w).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        require_reparameterised(self, q, x)
