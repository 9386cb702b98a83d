r"""Weighted draws of z given the observed cells, which every completion is made of."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import MultivariateNormal, OneHotCategorical

from taut.functional.bounds import effective_sample_size, normalised_weights
from taut.functional.sampling import NoiseKeys, Proposal
from taut.functional.types import LogWeights, PerDatum
from taut.model import exact_inference
from taut.model.draws import weighted_draws
from taut.model.joint import Joint

MAX_KERNELS = 128
"""Draws of z whose mixture stands for the density of a cell where its most probable value is sought."""


@dataclass(frozen=True)
class Latents:
    r"""$p(z \mid x_{obs}) \approx \sum_k \tilde w_k \delta_{z_k}$ for each datum.

    Args:
        z: ``[k, b, *z]``.
        log_w: Log-weights, nats.
        exact: Whether this is the posterior itself: every category with its probability, or draws of equal weight.
        centre: $E[z \mid x_{obs}]$ where the posterior is known and the mean of x is linear in z.
        gaussian: Whether x given the observed cells is one Gaussian, so that its mean is its mode.
    """

    z: Float[Tensor, "k b *z"]
    log_w: LogWeights
    exact: bool
    centre: Float[Tensor, "b *z"] | None = None
    gaussian: bool = False

    @classmethod
    def equal(cls, z: Float[Tensor, "k b *z"]) -> "Latents":
        """Draws of the posterior, all of one weight."""
        return cls(z, torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device), exact=True)

    def at(self, i: int) -> "Latents":
        """Draws of datum i."""
        return Latents(self.z[:, i : i + 1], self.log_w[:, i : i + 1], self.exact)

    @property
    def weights(self) -> LogWeights:
        """The normalised weights."""
        return normalised_weights(self.log_w)

    @property
    def ess(self) -> PerDatum:
        """Effective number of draws; NaN where the posterior is exact and nothing is lost."""
        return torch.full_like(self.log_w[0], torch.nan) if self.exact else effective_sample_size(self.log_w)

    def thinned(self) -> "Latents":
        """At most ``MAX_KERNELS`` draws of each datum, evenly among the weights where there are more."""
        if len(self.z) <= MAX_KERNELS:
            return self
        even = (torch.arange(MAX_KERNELS, dtype=torch.float64, device=self.z.device) + 0.5) / MAX_KERNELS
        return Latents.equal(torch.cat([self.at(i).resampled(even) for i in range(self.z.shape[1])], 1))

    def resampled(self, uniform: Float[Tensor, " n"]) -> Float[Tensor, "n 1 *z"]:
        """The z of one datum that each uniform number picks (sampling-importance-resampling; Rubin, 1987)."""
        steps = self.weights[:, 0].cumsum(0)
        # times the last sum, which rounding keeps from being 1; clamped, as the product may round up to it
        picked = torch.searchsorted(steps, uniform * steps[-1], right=True)
        return self.z[picked.clamp_max(len(steps) - 1)]


def latents(joint: Joint, proposal: Proposal, x: Float[Tensor, "b *x"], keys: NoiseKeys, k: int, draws: int) -> Latents:
    """Every category, draws of a known posterior, or importance samples: the best of these that the model admits.

    Use it inside :func:`taut.functional.seeding.forked`. The importance samples are those of ``evidence=importance``.

    Args:
        joint: The model.
        proposal: q, for a model whose posterior is not known.
        x: Data with missing cells.
        keys: What the noise is keyed by.
        k: Number of importance samples K.
        draws: Number of independent draws that are wanted of a known posterior.
    """
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        z = prior.enumerate_support().unsqueeze(1).expand(-1, len(x), -1)
        return Latents(z, joint.log_prob(x, z).double(), exact=True)
    if exact_inference.tractable(joint):
        n = max(draws, MAX_KERNELS)
        z, log_w = weighted_draws(None, lambda rows: exact_inference.posterior(joint, x[rows]), x, keys, n)
        posterior = exact_inference.posterior(joint, x)
        return Latents(z, log_w, True, posterior.mean, isinstance(posterior, MultivariateNormal))
    return Latents(*weighted_draws(joint.log_prob, proposal, x, keys, k), exact=False)
