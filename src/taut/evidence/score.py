r"""Scores of single data: bounds, KL and diagnostics from one set of importance samples.

The noise is keyed (see :mod:`taut.functional.sampling`), so a score depends on its datum alone. Log-weights are kept in
float64. Where q is the exact posterior of a discrete z nothing is drawn: every weight is p(x), and expectations are
sums over z.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, OneHotCategorical

from taut.distributions.chain import Chain
from taut.evidence.weights import Weights
from taut.functional import bounds, seeding
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import NoiseKeys
from taut.functional.statistics import variance_of_mean
from taut.functional.types import PerDatum
from taut.model import exact_inference
from taut.model.draws import LogDensities, draw_keyed
from taut.model.joint import Joint
from taut.model.q.exact import Exact

NUMBERS = 2**21
"""Coordinates compared at once, those of every datum with those of every component."""
DETAILS = ("log_px", "variance", "ess", "max_weight", "khat")
"""What tells whether importance sampling can be trusted: value, Monte Carlo variance and diagnostics of each datum."""


@dataclass(frozen=True)
class Sample(LogDensities):
    """Importance samples of a batch, in float64, without their z.

    Args:
        log_px: log p(x|z), nats.
        log_pz: log p(z).
        log_qz: log q(z|x).
        mean_z: E_q[z], estimated from the samples where q does not know it.
        noise_z: Monte Carlo variance of that estimate; 0 where q knows its mean.
        kl_of_layers: log q - log p of each layer of z, given those drawn before; none where z has no layers.
    """

    mean_z: Float[Tensor, "b *z"]
    noise_z: Float[Tensor, "b *z"]
    kl_of_layers: Float[Tensor, "layers k b"]


@dataclass(frozen=True)
class Scores:
    """Everything that is reported about each datum of a batch; nats, float64, shape ``[b]`` unless said otherwise.

    Args:
        values: By name: elbo, bound, log_px, gap, kl, reconstruction, ess, and where q is a chain of layers the terms
            of kl, kl_1 that of the first.
        noise: Monte Carlo variance at fixed x of the entries that come from samples, by name.
        curve: IWAE-k over the blocks of the samples, ``[len(block_sizes), b]``.
        mean_z: E_q[z], ``[b, *z]``.
        noise_z: Monte Carlo variance of ``mean_z``.
        details: What :data:`DETAILS` lists of the samples behind log p(x), where it was asked for.
    """

    values: dict[str, PerDatum]
    noise: dict[str, PerDatum]
    curve: Float[Tensor, "sizes b"]
    mean_z: Float[Tensor, "b *z"]
    noise_z: Float[Tensor, "b *z"]
    details: Float[Tensor, "5 b"] | None = None

    @staticmethod
    def cat(parts: "Sequence[Scores]") -> "Scores":
        """The scores of further data."""
        values, spread = (
            {name: torch.cat([each[name] for each in several]) for name in several[0]}
            for several in ([part.values for part in parts], [part.noise for part in parts])
        )
        mean_z, noise_z = torch.cat([p.mean_z for p in parts]), torch.cat([p.noise_z for p in parts])
        return Scores(values, spread, torch.cat([part.curve for part in parts], 1), mean_z, noise_z)


def score(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    x: Float[Tensor, "b *x"],
    index: Int[Tensor, " b"],
    *,
    bound: Callable[[Tensor], Tensor],
    k: int,
    samples: int,
    seed: int,
    split: str,
    detailed: bool = False,
) -> Scores:
    r"""Score a batch from ``samples`` importance samples of each datum.

    Args:
        joint: $p(x, z)$.
        q: $q(z \mid x)$.
        x: Data.
        index: Row of each datum in its split: what its noise is keyed by.
        bound: The objective's bound of log-weights ``[k, n]``, evaluated on every block of k samples.
        k: Importance samples of that bound.
        samples: Number of samples K; a multiple of ``k``, two blocks of it or more for the noise of the bound.
        seed: Seed of the noise.
        split: Name of the split, part of the key.
        detailed: Whether to tell of each datum what :data:`DETAILS` lists, where log p(x) is not exact.
    """
    with exact_arithmetic(x.device):
        if isinstance(q, Exact) and isinstance(joint.prior(), OneHotCategorical):
            parts = x.split(max(1, NUMBERS // (joint.prior.z_shape[0] * x[:1].numel())))
            return Scores.cat([summed(joint, q, part, bound, k, samples) for part in parts])
        drawn = sample(joint, q, x, index, samples, seed=seed, split=split)
        log_w = drawn.log_w
        curve = bounds.block_curve(log_w)
        elbo = bounds.elbo(log_w)
        exact = exact_inference.tractable(joint)
        log_px = exact_inference.log_marginal(joint, x).double() if exact else bounds.iwae(log_w)
        blocks = bound(log_w.unflatten(0, (-1, k)).transpose(0, 1).flatten(1)).unflatten(0, (-1, len(x)))
        values = {
            "elbo": elbo,
            "bound": blocks.mean(0),
            "log_px": log_px,
            "gap": log_px - elbo,
            "kl": (drawn.log_qz - drawn.log_pz).mean(0),
            "reconstruction": drawn.log_px.mean(0),
            "ess": bounds.effective_sample_size(log_w),
        }
        of_layers = dict(zip(names_of_layers("kl", len(drawn.kl_of_layers)), drawn.kl_of_layers, strict=True))
        values |= {name: terms.mean(0) for name, terms in of_layers.items()}
        influence = torch.zeros_like(log_w) if exact else samples * bounds.normalised_weights(log_w)
        spread = {
            "elbo": variance_of_mean(log_w),
            "bound": variance_of_mean(blocks),
            "log_px": variance_of_mean(influence),
            "gap": variance_of_mean(influence - log_w),
            "kl": variance_of_mean(drawn.log_qz - drawn.log_pz),
            "reconstruction": variance_of_mean(drawn.log_px),
            **{name: variance_of_mean(terms) for name, terms in of_layers.items()},
        }
        details = _details(log_w) if detailed and not exact else None
        return Scores(values, spread, curve, drawn.mean_z, drawn.noise_z, details)


def names_of_layers(score: str, layers: int) -> list[str]:
    """The names of a score of each layer, kl_1 that of the first."""
    return [f"{score}_{number}" for number in range(1, layers + 1)]


def _details(log_w: Float[Tensor, "k b"]) -> Float[Tensor, "5 b"]:
    weights = Weights(log_w)
    return torch.stack([weights.iwae, weights.iwae_variance, weights.ess, weights.max_weight, weights.khat])


def summed(
    joint: Joint, q: Exact, x: Float[Tensor, "b *x"], bound: Callable[[Tensor], Tensor], k: int, samples: int
) -> Scores:
    r"""The scores under the posterior of a discrete z, without noise: $\sum_z q(z \mid x) \dots$ over all z."""
    prior, posterior = joint.prior(), q(x)
    assert isinstance(prior, OneHotCategorical)
    assert isinstance(posterior, OneHotCategorical)
    z = prior.enumerate_support().unsqueeze(1)
    log_px_z = joint.likelihood(z).log_prob(x).double()  # [c, b]
    log_pz, log_qz = prior.logits.double().unsqueeze(-1), posterior.logits.mT.double()
    weight = log_qz.exp()
    kl, reconstruction = _weighted(weight, log_qz - log_pz), _weighted(weight, log_px_z)
    elbo, log_px = _weighted(weight, log_px_z + log_pz - log_qz), bounds.log_sum_exp(log_px_z + log_pz)
    values = {
        "elbo": elbo,
        "bound": bound(elbo.expand(k, -1)),
        "log_px": log_px,
        "gap": log_px - elbo,
        "kl": kl,
        "reconstruction": reconstruction,
        "ess": torch.full_like(elbo, samples),
    }
    spread = {name: torch.zeros_like(elbo) for name in values if name != "ess"}
    curve = elbo.expand(len(bounds.block_sizes(samples)), -1)
    mean_z = posterior.mean.double()
    return Scores(values, spread, curve, mean_z, torch.zeros_like(mean_z))


def _weighted(weight: Float[Tensor, "c b"], values: Float[Tensor, "c b"]) -> PerDatum:
    """Expectation, to which what has no weight adds nothing, be it infinite."""
    return torch.where(weight > 0, weight * values, 0.0).sum(0)


def sample(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    x: Float[Tensor, "b *x"],
    index: Int[Tensor, " b"],
    k: int,
    *,
    seed: int,
    split: str,
    chunk_size: int | None = None,
) -> Sample:
    """Draw and score ``k`` samples of each datum, ``chunk_size`` of them at a time; only moments of z are kept."""
    out = x.new_empty((3, k, len(x)), dtype=torch.float64)
    moments = x.new_zeros((2, len(x), *joint.prior.z_shape), dtype=torch.float64)
    prior, posterior, keys = joint.prior(), q(x), NoiseKeys(index, seed, split)
    layers = len(joint.prior.layers) if isinstance(posterior, Chain) else 0
    of_layers = x.new_empty((layers, k, len(x)), dtype=torch.float64)
    with seeding.forked(x.device):
        for drawn in draw_keyed(lambda rows: q(x[rows]), keys, k, chunk_size=chunk_size):
            densities, z = drawn.log_densities(joint, prior, x), drawn.z
            for i, values in enumerate((densities.log_px, densities.log_pz, densities.log_qz)):
                out[i, drawn.samples, drawn.rows] = values
            # in float64, because moments of many draws in float32 would lose digits
            sums = torch.stack([z.sum(0, dtype=torch.float64), z.square().sum(0, dtype=torch.float64)])
            moments[:, drawn.rows] += sums
            if layers:
                of_layers[:, drawn.samples, drawn.rows] = _kl_of_layers(q(x[drawn.rows]), prior, z)
    return Sample(out[0], out[1], out[2], *_mean(posterior, moments / k, k), of_layers)


def _kl_of_layers(q: Distribution, prior: Distribution, z: Float[Tensor, "n b d"]) -> Float[Tensor, "layers n b"]:
    """Log q - log p of each layer."""
    assert isinstance(q, Chain)
    assert isinstance(prior, Chain)
    return q.log_prob_of_layers(z) - prior.log_prob_of_layers(z)


def _mean(posterior: Distribution, moments: Float[Tensor, "2 b *z"], k: int) -> tuple[Tensor, Tensor]:
    """E_q[z] and the Monte Carlo variance it is known with."""
    mean, square = moments
    try:
        return posterior.mean.double(), torch.zeros_like(mean)
    except NotImplementedError:
        # rounding may leave a variance just below 0
        return mean, (square - mean.square()).clamp_min(0) / max(k - 1, 1)
