"""DisARM."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.distributions.bits import Bits
from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws, draw
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective


class Disarm(Objective):
    r"""The ELBO of bits, from antithetic pairs of draws (Dong, Mnih & Tucker, 2020).

    Both of a pair come from the same noise u, one from u and one from 1 - u, so that their difference says how the
    bound changes with each bit that differs. By log-odds $a_j$ of q, and without bias, the gradient of
    $E_q[f(z)]$ with $f = \log w$ is $\frac12 (f(z) - f(z')) (z_j - z'_j)\, \sigma(|a_j|)$, averaged over K/2 pairs.

    Each draw of a pair has the density of q, so that their mean log-weight is the ELBO that is reported.
    """

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def draw(self, joint: Joint, q: Posterior, x: Float[Tensor, "b *x"], k: int, kl_weight: float = 1.0) -> Draws:
        return draw(joint, q, x, k, kl_weight=kl_weight, sample=antithetic)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        assert isinstance(draws.q, Bits)
        log_odds = draws.q.base_dist.logits
        f, other_f = draws.tempered_log_w.chunk(2)
        z, other_z = draws.z.chunk(2)
        slope = 0.5 * (f - other_f).unsqueeze(-1) * (z - other_z) * log_odds.abs().sigmoid()
        of_q = (slope.detach() * log_odds).sum(-1).mean(0)
        # the gradient of log q in f itself is 0 on average, and would be noise
        of_model = (draws.log_px + draws.kl_weight * draws.log_pz).mean(0)
        return -(of_model + of_q).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        with torch.no_grad():
            binary = isinstance(q(x), Bits)
        if not binary:
            raise UserError(
                f"objective=disarm draws bits in antithetic pairs, but q={type(q).__name__.lower()} under prior="
                f"{type(joint.prior).__name__.lower()} draws no bits; choose prior=bernoulli q=bernoulli, or "
                "objective=elbo."
            )
        if k % 2:
            raise UserError(f"objective=disarm draws in antithetic pairs, so k must be even, but k={k}; set k={k + 1}.")


def antithetic(q: Distribution, k: int) -> Float[Tensor, "k b d"]:
    """K/2 draws of bits, and behind them those of the mirrored noise."""
    assert isinstance(q, Bits)
    probs = q.base_dist.logits.detach().sigmoid()
    noise = torch.rand(k // 2, *probs.shape, dtype=probs.dtype, device=probs.device)
    return (torch.cat([noise, 1 - noise]) < probs).to(probs)
