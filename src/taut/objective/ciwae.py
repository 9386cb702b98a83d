"""Combination of the ELBO and the importance-weighted bound."""

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import elbo, iwae
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.objective.base import Objective
from taut.objective.vimco import differentiable


class Ciwae(Objective):
    r"""$\beta\, \mathrm{ELBO} + (1 - \beta)\, L_K$ on the same K draws (Rainforth et al., 2018): a lower bound, too.

    Args:
        beta: $\beta$ from 0 (``iwae``) to 1 (``elbo``).

    Raises:
        UserError: If $\beta$ is outside of that.
    """

    def __init__(self, beta: float = 0.5) -> None:
        if not 0 <= beta <= 1:
            raise UserError(f"objective.beta must be a number from 0 (iwae) to 1 (elbo), got {beta}.")
        self.beta = beta

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return self.beta * elbo(log_w) + (1 - self.beta) * iwae(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -differentiable(draws, self.bound).mean()
