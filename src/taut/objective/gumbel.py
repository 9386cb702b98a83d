"""Gumbel-softmax relaxation."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical, kl_divergence

from taut.distributions.bits import Bits
from taut.distributions.categories import DISCRETE, Categories
from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws, draw
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective

SMALLEST = 1e-20
"""Below which a uniform number is not taken the logarithm of."""


@dataclass(frozen=True)
class Relaxed(Draws):
    r"""Draws of the discrete model, and beside them K relaxed ones.

    Args:
        log_px_relaxed: $\log p(x \mid \tilde z)$ at relaxed draws, with a graph to q; that of the others has none.
    """

    log_px_relaxed: LogWeights | None = None


class Gumbel(Objective):
    r"""The ELBO of a discrete z, trained at relaxed draws (Jang et al., 2017; Maddison et al., 2017).

    Minimises $\mathrm{KL}(q(z \mid x) \| p(z)) - E[\log p(x \mid \tilde z)]$ with $\tilde z = \mathrm{softmax}((a + g)
    / \tau)$, a the log-odds of q, g Gumbel noise and $\tau$ the temperature (for a bit the sigmoid of logistic noise),
    and the KL that of the discrete z, in closed form. Gradients go through $\tilde z$; their bias falls and their noise
    grows as $\tau$ falls. It is no bound of the discrete model, and is not reported: that is the model's ELBO, of
    discrete draws.

    Args:
        temperature: $\tau$.

    Raises:
        UserError: If it is not above 0.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        if not 0 < temperature < float("inf"):
            raise UserError(f"objective.temperature must be a finite number above 0, got {temperature}.")
        self.temperature = temperature

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def draw(self, joint: Joint, q: Posterior, x: Float[Tensor, "b *x"], k: int, kl_weight: float = 1.0) -> Draws:
        posterior = q(x)
        with torch.no_grad():  # they are reported, and nothing is learned from them
            draws = draw(joint, lambda _: posterior, x, k, kl_weight=kl_weight)
        z = relaxed(posterior, self.temperature, k)
        draws = replace(draws, prior=joint.prior())  # with a graph
        return Relaxed(**vars(draws), log_px_relaxed=joint.likelihood(z).log_prob(x))

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        assert isinstance(draws, Relaxed)
        assert draws.log_px_relaxed is not None
        # expanded, since torch's formula for bits does not broadcast
        divergence = _kl(draws.q, draws.prior.expand(draws.q.batch_shape))
        return (draws.kl_weight * divergence - draws.log_px_relaxed.mean(0)).mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        del k
        with torch.no_grad():
            discrete = isinstance(q(x), DISCRETE)
        if not discrete or q.exact or not q.learned:
            raise UserError(
                f"objective=gumbel relaxes bits and categories that a network gives the odds of, but q="
                f"{type(q).__name__.lower()} gives none; choose prior=bernoulli q=bernoulli, prior=categoricals "
                "q=categoricals, or objective=elbo."
            )
        if joint.likelihood.of_categories:
            raise UserError(
                f"objective=gumbel mixes categories, which likelihood={type(joint.likelihood).__name__.lower()} looks "
                "up in a table; choose objective=vimco, or a likelihood with a network."
            )


def relaxed(q: Distribution, temperature: float, k: int) -> Float[Tensor, "k b d"]:
    """K relaxed draws of bits or categories, with gradients to their log-odds."""
    log_odds = q.base_dist.logits if isinstance(q, (Bits, Categories)) else q.logits  # type: ignore[attr-defined]
    noise = torch.rand(k, *log_odds.shape, dtype=log_odds.dtype, device=log_odds.device).clamp_min(SMALLEST)
    if isinstance(q, Bits):
        return ((log_odds + noise.log() - (-noise).log1p()) / temperature).sigmoid()
    z = ((log_odds - (-noise.log()).log()) / temperature).softmax(-1)
    return z.flatten(-2) if isinstance(q, Categories) else z


def _kl(q: Distribution, p: Distribution) -> Float[Tensor, " b"]:
    if isinstance(q, (Bits, Categories)) and isinstance(p, (Bits, Categories)):
        return kl_divergence(q.base_dist, p.base_dist).sum(-1)
    assert isinstance(q, OneHotCategorical)
    return kl_divergence(q, p)
