"""Thermodynamic variational objective."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional.bounds import thermodynamic_sum
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.objective.base import Objective
from taut.objective.vimco import differentiable


class Tvo(Objective):
    r"""Riemann sum of $\log p(x) = \int_0^1 E_{\pi_\beta}[\log w]\, d\beta$ (Masrani, Le & Wood, 2019).

    Expectations under $\pi_\beta \propto q\, w^\beta$ are taken with weights $w_k^\beta$ of the K draws. Whatever the
    draws, the left sum is then at most $L_K$ and so a lower bound, the ELBO with one piece; the right sum is above
    $L_K$ and may lie on either side of $\log p(x)$, so it is reported as an estimate. Trained by the gradient of the
    sum itself, which is unbiased for what is reported; the covariance form of the paper is not.

    Args:
        pieces: Number T of pieces of [0, 1], $0 = \beta_0 < \beta_1 < \dots < \beta_T = 1$, of which those behind
            the first are evenly spaced in their logarithm.
        first: $\beta_1$.
        end: ``left`` or ``right``, the end of each piece whose value stands for it.

    Raises:
        UserError: If one of them is out of range.
    """

    def __init__(self, pieces: int = 5, first: float = 0.05, end: Literal["left", "right"] = "left") -> None:
        if pieces < 1 or not 0 < first < 1:
            raise UserError(
                f"objective.pieces must be an integer >= 1 and objective.first a number between 0 and 1, got {pieces} "
                f"and {first}."
            )
        spaced = [first ** (1 - i / (pieces - 1)) for i in range(pieces - 1)] if pieces > 1 else []
        self.path = [0.0, *spaced, 1.0]
        self.right = end == "right"
        self.kind: Literal["lower", "estimate"] = "estimate" if self.right else "lower"

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return thermodynamic_sum(log_w, self.path, right=self.right)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        return -differentiable(draws, self.bound).mean()
