"""Evidence lower bound."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective, leave_one_out, mean_of_others


class Elbo(Objective):
    r"""$\mathrm{ELBO} = E_q[\log w] = E_q[\log p(x \mid z)] - \mathrm{KL}(q(z \mid x) \| p(z))$.

    Kingma & Welling (2014). With k > 1 the mean over k draws: the same bound, less noise. Draws that cannot be
    reparameterised get the score-function gradient with a leave-one-out baseline (Kool et al., 2019).

    Args:
        kl: ``analytic`` uses the closed-form KL in the gradient, ``sampled`` the draws, ``auto`` the closed form where
            both sides are Gaussian. The reported bound always comes from the draws.
    """

    def __init__(self, kl: Literal["auto", "analytic", "sampled"] = "auto") -> None:
        if kl not in ("auto", "analytic", "sampled"):
            raise UserError(f"objective.kl={kl!r} is not known; choose auto, analytic or sampled.")
        self.kl = kl

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        if self.kl != "sampled" and gaussian(draws.q) and gaussian(draws.prior):
            divergence = gaussian_kl(draws.q, draws.prior)
            return (draws.kl_weight * divergence - draws.log_px.mean(0)).mean()
        log_w = draws.tempered_log_w
        value = log_w.mean(0)
        if not draws.q.has_rsample:
            value = value + leave_one_out(log_w, mean_of_others(log_w), draws.log_qz) / len(log_w)
        return -value.mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        with torch.no_grad():
            both_gaussian = gaussian(q(x)) and gaussian(joint.prior())
        if self.kl == "analytic" and not both_gaussian:
            raise UserError(
                f"objective.kl=analytic needs a Gaussian q and a Gaussian prior, but q={type(q).__name__.lower()} and "
                f"prior={type(joint.prior).__name__.lower()} were given; set objective.kl=sampled."
            )


def gaussian(distribution: Distribution) -> bool:
    """Tell whether this is one Gaussian, diagonal, of low rank or full."""
    return isinstance(distribution, (MultivariateNormal, LowRankMultivariateNormal)) or (
        isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)
    )


def gaussian_kl(q: Distribution, p: Distribution) -> Float[Tensor, "*b"]:
    r"""$\mathrm{KL}(q \| p)$ between two Gaussians, diagonal, of low rank or full, in nats."""
    # torch knows no KL between a diagonal Gaussian and another one
    if type(q) is not type(p):
        q, p = _as_full(q), _as_full(p)
    return kl_divergence(q, p)


def _as_full(d: Distribution) -> MultivariateNormal:
    if isinstance(d, MultivariateNormal):
        return d
    if isinstance(d, LowRankMultivariateNormal):
        return MultivariateNormal(d.mean, scale_tril=d.scale_tril, validate_args=False)
    return MultivariateNormal(d.mean, scale_tril=torch.diag_embed(d.stddev), validate_args=False)
