"""K draws of z for each datum, with every log-density that a bound or a surrogate can ask for."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.functional.bounds import normalised_weights
from taut.functional.resampling import resample
from taut.functional.types import LogWeights
from taut.model.joint import Joint


@dataclass(frozen=True)
class Resampled:
    r"""What is known of all K draws where the backward pass goes through few of them.

    Args:
        log_w: Log-weights of all draws, without a graph.
        normalised: Normalised weights $\tilde w$ of the few among all, under KL warm-up where there is one.
        weights: What each of the few counts with in the gradient; $\tilde w$ of all draws on average.
    """

    log_w: LogWeights
    normalised: Float[Tensor, "m b"]
    weights: Float[Tensor, "m b"]


@dataclass(frozen=True)
class Draws:
    r"""What one forward pass knows about $K$ latent draws for each datum.

    $\log w_{kb} = \log p(x_b \mid z_{kb}) + \log p(z_{kb}) - \log q(z_{kb} \mid x_b)$, in nats.

    Args:
        x: The data, shape ``[b, *x]``.
        z: Latent draws, shape ``[k, b, *z]``, the sample axis first.
        log_px: Log-likelihood $\log p(x \mid z)$, shape ``[k, b]``.
        log_pz: Log-prior, shape ``[k, b]``.
        log_qz: Log-density of the proposal, shape ``[k, b]``.
        prior: The distribution $p(z)$ the draws were scored with.
        q: The distribution $q(z \mid x)$ the draws came from, batch shape ``[b]``.
        few: What is known of the others, where these are few of the draws.
        kl_weight: Weight of $\log p(z) - \log q(z \mid x)$ in what is minimised; never in what is reported.
    """

    x: Float[Tensor, "b *x"]
    z: Float[Tensor, "k b *z"]
    log_px: LogWeights
    log_pz: LogWeights
    log_qz: LogWeights
    prior: Distribution
    q: Distribution
    kl_weight: float = 1.0
    resampled: Resampled | None = None

    @property
    def log_w_detached(self) -> LogWeights:
        """The log-weights a bound is reported of: all of them, without a graph."""
        return self.log_w.detach() if self.resampled is None else self.resampled.log_w

    @property
    def log_w(self) -> LogWeights:
        """The log-weights, shape ``[k, b]``, nats: what every reported bound reads."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def tempered_log_w(self) -> LogWeights:
        """The log-weights under KL warm-up: what surrogates read. Equal to ``log_w`` at weight 1."""
        return self.log_px + self.kl_weight * (self.log_pz - self.log_qz)


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
        index, kept_weights = resample(weights, backward, torch.rand(len(x), device=x.device))
    kept = z.gather(0, index.reshape(*index.shape, *[1] * (z.dim() - 2)).expand(-1, -1, *z.shape[2:]))
    draws = _scored(joint, q, posterior, x, kept, path_only, kl_weight)
    return replace(draws, resampled=Resampled(every.log_w, weights.gather(0, index), kept_weights))


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
