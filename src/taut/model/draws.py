"""K draws of z for each datum, with every log-density that a bound or a surrogate can ask for."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.functional.types import LogWeights


@dataclass(frozen=True)
class Few:
    r"""What is known of all K draws where the backward pass goes through few of them.

    Args:
        log_w: Log-weights of all draws, without a graph.
        weights: Normalised weights $\tilde w$ of the few among all, under KL warm-up where there is one.
        shares: What each of the few counts with in the gradient; $\tilde w$ of all draws on average.
    """

    log_w: LogWeights
    weights: Float[Tensor, "m b"]
    shares: Float[Tensor, "m b"]


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
    few: Few | None = None

    @property
    def scored(self) -> LogWeights:
        """The log-weights a bound is reported of: all of them, without a graph."""
        return self.log_w.detach() if self.few is None else self.few.log_w

    @property
    def log_w(self) -> LogWeights:
        """The log-weights, shape ``[k, b]``, nats: what every reported bound reads."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def tempered_log_w(self) -> LogWeights:
        """The log-weights under KL warm-up: what surrogates read. Equal to ``log_w`` at weight 1."""
        return self.log_px + self.kl_weight * (self.log_pz - self.log_qz)
