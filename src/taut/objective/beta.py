"""ELBO with a weighted KL."""

from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective
from taut.objective.elbo import Elbo


class Beta(Objective):
    r"""Minimises $\beta\, \mathrm{KL}(q(z \mid x) \| p(z)) - E_q[\log p(x \mid z)]$ (Higgins et al., 2017).

    That is no bound where $\beta < 1$ and a loose one where $\beta > 1$, so the ELBO is what is reported, at weight 1.

    Args:
        beta: $\beta$, the weight of the KL, above 0; KL warm-up raises it from 0 to this.
        kl: As of ``objective=elbo``.

    Raises:
        UserError: If $\beta$ is not above 0.
    """

    def __init__(self, beta: float = 4.0, kl: Literal["auto", "analytic", "sampled"] = "auto") -> None:
        if not 0 < beta < float("inf"):
            raise UserError(f"objective.beta must be a finite number above 0, got {beta}.")
        self.beta = beta
        self.elbo = Elbo(kl)

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return self.elbo.surrogate(replace(draws, kl_weight=self.beta * draws.kl_weight))

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        self.elbo.check(joint, q, k, x)
