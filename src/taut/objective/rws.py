"""Reweighted wake-sleep."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.errors import UserError
from taut.functional.bounds import iwae, normalised_weights
from taut.functional.types import LogWeights, PerDatum
from taut.model.draws import Draws, draw
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective


@dataclass(frozen=True)
class Asleep(Draws):
    r"""Draws of each datum, and one pair $(x', z')$ of the model beside it.

    Args:
        log_q_dreamt: $\log q(z' \mid x')$.
    """

    log_q_dreamt: PerDatum | None = None


class Rws(Objective):
    r"""Reweighted wake-sleep (Bornschein & Bengio, 2015; Le et al., 2019): q by a loss of its own, not by the bound.

    The model climbs $L_K$: $\sum_k \tilde w_k \nabla_\theta \log p(x, z_k)$ with $\tilde w_k = w_k / \sum_j w_j$. In
    phase ``wake`` q climbs $\sum_k \tilde w_k \log q(z_k \mid x)$, which for many draws falls with
    $\mathrm{KL}(p(z \mid x) \| q(z \mid x))$; in phase ``sleep`` $\log q(z' \mid x')$ of pairs drawn from the model,
    whose $\mathrm{KL}(p(z' \mid x') \| q(z' \mid x'))$ it is exactly, on data the model dreams. Draws are constants to
    both, so z may be anything. What is reported is $L_K$.

    Args:
        phase: Where q learns.

    Raises:
        UserError: If the phase is not known.
    """

    def __init__(self, phase: Literal["wake", "sleep"] = "wake") -> None:
        if phase not in ("wake", "sleep"):
            raise UserError(f"objective.phase={phase!r} is not known; choose wake or sleep.")
        self.phase = phase

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return iwae(log_w)

    def draw(self, joint: Joint, q: Posterior, x: Float[Tensor, "b *x"], k: int, kl_weight: float = 1.0) -> Draws:
        draws = draw(joint, q, x, k, kl_weight=kl_weight, sample=_constant)
        if self.phase == "wake":
            return draws
        z, dreamt = joint.sample(len(x))
        # with the holes of the data, since that is what q is asked about
        dreamt = torch.where(x.isnan(), torch.nan, dreamt.to(x))
        return Asleep(**vars(draws), log_q_dreamt=q(dreamt).log_prob(z))

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        weights = normalised_weights(draws.tempered_log_w.detach())
        of_model = (weights * (draws.log_px + draws.kl_weight * draws.log_pz)).sum(0)
        of_q = draws.log_q_dreamt if isinstance(draws, Asleep) else (weights * draws.log_qz).sum(0)
        assert of_q is not None
        return -(of_model + of_q).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        del joint, x
        if q.exact or not q.learned:
            raise UserError(
                f"objective=rws trains q by a loss of its own, but q={type(q).__name__.lower()} has no parameters of "
                "its own; choose objective=iwae, or q=diagonal."
            )
        if self.phase == "wake" and k < 2:
            raise UserError(
                f"objective=rws weighs the draws of each datum against each other, which needs k >= 2, but k={k}; set "
                "k=2 or more, or objective.phase=sleep."
            )


def _constant(q: Distribution, k: int) -> Float[Tensor, "k b *z"]:
    return q.sample(torch.Size([k]))
