"""The joint p(x, z) = p(z) p(x | z), and one forward pass through it."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.errors import UserError
from taut.functional.bounds import normalised_weights
from taut.functional.resampling import choose
from taut.likelihood.base import Likelihood
from taut.model.draws import Draws, Few
from taut.prior.base import Prior


class Joint(nn.Module):
    r"""$p(x, z) = p(z)\, p(x \mid z)$; z and its densities are in float64 (see :mod:`taut.functional.precision`).

    Args:
        prior: $p(z)$.
        likelihood: $p(x \mid z)$.

    Raises:
        UserError: If the likelihood is a table and z is no category.
    """

    def __init__(self, prior: Prior, likelihood: Likelihood) -> None:
        super().__init__()
        if likelihood.of_categories and not prior.discrete:
            raise UserError(
                f"likelihood={type(likelihood).__name__.lower()} looks z up in a table, so z must be a category, but "
                f"prior={type(prior).__name__.lower()} makes it continuous; choose model=mog, or likelihood=gaussian."
            )
        self.prior = prior
        self.likelihood = likelihood

    def log_prob(self, x: Float[Tensor, "b *x"], z: Float[Tensor, "k b *z"]) -> Float[Tensor, "k b"]:
        r"""$\log p(x, z)$ in nats."""
        return self.prior().log_prob(z) + self.likelihood(z).log_prob(x)

    @torch.no_grad()
    def sample(self, n: int) -> tuple[Float[Tensor, "n *z"], Float[Tensor, "n *x"]]:
        """N independent pairs (z, x), by ancestral sampling."""
        z = self.prior().sample((n,))
        return z, self.likelihood(z).sample()


def draw(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    x: Float[Tensor, "b *x"],
    k: int,
    *,
    path_only: bool = False,
    kl_weight: float = 1.0,
    backward: int | None = None,
) -> Draws:
    r"""K draws of z for each x, with every log-density that a bound or a surrogate can ask for.

    Args:
        joint: $p(x, z)$.
        q: $q(z \mid x)$; draws are reparameterised where q can do that.
        x: Data, shape ``[b, *x_shape]``.
        k: Number of draws K.
        path_only: Score z under q with q's parameters held constant, so that the gradient reaches them through z
            alone (Roeder et al., 2017).
        kl_weight: Weight of $\log p(z) - \log q(z \mid x)$ in what is minimised.
        backward: Keep so many of the draws, chosen by their weights (``taut.functional.resampling``), with a graph;
            None for all.
    """
    posterior = q(x)
    z = posterior.rsample((k,)) if posterior.has_rsample else posterior.sample((k,))
    if backward is None or backward >= k:
        return _scored(joint, q, posterior, x, z, path_only, kl_weight)
    with torch.no_grad():
        every = _scored(joint, q, posterior, x, z, False, kl_weight)
        weights = normalised_weights(every.tempered_log_w)
        index, shares = choose(weights, backward, torch.rand(len(x), device=x.device))
    kept = z.gather(0, index.reshape(*index.shape, *[1] * (z.dim() - 2)).expand(-1, -1, *z.shape[2:]))
    draws = _scored(joint, q, posterior, x, kept, path_only, kl_weight)
    return replace(draws, few=Few(every.log_w, weights.gather(0, index), shares))


def _scored(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    posterior: Distribution,
    x: Tensor,
    z: Tensor,
    path_only: bool,
    kl_weight: float,
) -> Draws:
    prior = joint.prior()
    return Draws(
        x=x,
        z=z,
        log_px=joint.likelihood(z).log_prob(x),
        log_pz=prior.log_prob(z),
        log_qz=_frozen_log_prob(q, x, z) if path_only else posterior.log_prob(z),
        prior=prior,
        q=posterior,
        kl_weight=kl_weight,
    )


class _LogProb(nn.Module):
    def __init__(self, q: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.q = q

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.q(x).log_prob(z)


def _frozen_log_prob(q: Callable[[Tensor], Distribution], x: Tensor, z: Tensor) -> Tensor:
    scorer = _LogProb(q)
    frozen = {name: value.detach() for name, value in scorer.named_parameters()}
    return torch.func.functional_call(scorer, frozen, (x, z))
