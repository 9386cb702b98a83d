r"""Scores of single data: bounds, KL and diagnostics from one set of importance samples.

The noise of a datum is keyed by (seed, split, row, block of samples) and nothing else, so its scores do not depend on
its batch mates, on the chunk size or on the number of processes. Log-weights are kept in float64.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution

from taut import bounds, noise, oracle
from taut.joint import Joint
from taut.types import PerDatum

BLOCK = 512
"""Samples of one datum that share a seed."""

ROWS = {"cpu": 1024, "cuda": 65536}
"""Latent draws scored at once: on a CPU about what its cache holds."""


@dataclass(frozen=True)
class Sample:
    """Importance samples of a batch, in float64.

    Args:
        log_px: log p(x|z), nats.
        log_pz: log p(z).
        log_qz: log q(z|x).
        mean_z: E_q[z], estimated from the samples where q does not know it.
        noise_z: Monte Carlo variance of that estimate; 0 where q knows its mean.
    """

    log_px: Float[Tensor, "k b"]
    log_pz: Float[Tensor, "k b"]
    log_qz: Float[Tensor, "k b"]
    mean_z: Float[Tensor, "b *z"]
    noise_z: Float[Tensor, "b *z"]

    @property
    def log_w(self) -> Float[Tensor, "k b"]:
        """The log-weights, nats."""
        return self.log_px + self.log_pz - self.log_qz


@dataclass(frozen=True)
class Scores:
    """Everything that is reported about each datum of a batch; nats, float64, shape ``[b]`` unless said otherwise.

    Args:
        values: By name: elbo, bound, log_px, gap, kl, reconstruction, ess.
        noise: Monte Carlo variance at fixed x of the entries that come from samples, by name.
        curve: IWAE-k over the blocks of the samples, ``[len(block_sizes), b]``.
        mean_z: E_q[z], ``[b, *z]``.
        noise_z: Monte Carlo variance of ``mean_z``.
    """

    values: dict[str, PerDatum]
    noise: dict[str, PerDatum]
    curve: Float[Tensor, "sizes b"]
    mean_z: Float[Tensor, "b *z"]
    noise_z: Float[Tensor, "b *z"]


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """IEEE arithmetic inside, whatever TF32 or autocast settings rule outside; no graph."""
    precision = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn


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
    """
    with exact_arithmetic(x.device):
        drawn = sample(joint, q, x, index, samples, seed=seed, split=split)
        log_w = drawn.log_w
        curve = torch.stack([bounds.block_bound(log_w, size) for size in bounds.block_sizes(samples)])
        elbo = bounds.elbo(log_w)
        exact = oracle.tractable(joint)
        log_px = oracle.log_marginal(joint, x).double() if exact else bounds.iwae(log_w)
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
        influence = torch.zeros_like(log_w) if exact else samples * bounds.normalised_weights(log_w)
        spread = {
            "elbo": _variance_of_mean(log_w),
            "bound": _variance_of_mean(blocks),
            "log_px": _variance_of_mean(influence),
            "gap": _variance_of_mean(influence - log_w),
            "kl": _variance_of_mean(drawn.log_qz - drawn.log_pz),
            "reconstruction": _variance_of_mean(drawn.log_px),
        }
        return Scores(values, spread, curve, drawn.mean_z, drawn.noise_z)


def sample(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    x: Float[Tensor, "b *x"],
    index: Int[Tensor, " b"],
    k: int,
    *,
    seed: int,
    split: str,
    rows: int | None = None,
) -> Sample:
    """Draw and score ``k`` samples of each datum, ``rows`` of them at a time."""
    rows = rows or ROWS.get(x.device.type, ROWS["cpu"])
    data_at_once = max(1, rows // min(k, BLOCK))
    with noise.forked(x.device):
        parts = [
            _sample_chunk(joint, q, part, ids.tolist(), k, seed, split)
            for part, ids in zip(x.split(data_at_once), index.split(data_at_once), strict=True)
        ]
    log_px, log_pz, log_qz, mean_z, noise_z = zip(*parts, strict=True)
    log_px, log_pz, log_qz = (torch.cat(scores, 1) for scores in (log_px, log_pz, log_qz))
    return Sample(log_px, log_pz, log_qz, torch.cat(mean_z), torch.cat(noise_z))


def _sample_chunk(
    joint: Joint,
    q: Callable[[Tensor], Distribution],
    x: Tensor,
    index: list[int],
    k: int,
    seed: int,
    split: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    posterior, prior = q(x), joint.prior()
    single = [q(row.unsqueeze(0)) for row in x]
    starts = range(0, k, BLOCK)
    out = x.new_empty((3, k, len(x)), dtype=torch.float64)
    moments = torch.zeros((2, len(x), *joint.prior.z_shape), dtype=torch.float64, device=x.device)
    for block, start in enumerate(starts):
        size = min(BLOCK, k - start)
        keys = [noise.key(seed, split, row * len(starts) + block) for row in index]
        z = torch.cat([_seeded(one, size, key) for one, key in zip(single, keys, strict=True)], 1)
        out[0, start : start + size] = joint.likelihood(z).log_prob(x)
        out[1, start : start + size] = prior.log_prob(z)
        out[2, start : start + size] = posterior.log_prob(z)
        moments += torch.stack([z.sum(0, dtype=torch.float64), z.square().sum(0, dtype=torch.float64)])
    return out[0], out[1], out[2], *_mean(posterior, moments / k, k)


def _seeded(distribution: Distribution, size: int, key: int) -> Tensor:
    torch.manual_seed(key)
    return distribution.sample((size,))


def _mean(posterior: Distribution, moments: Float[Tensor, "2 b *z"], k: int) -> tuple[Tensor, Tensor]:
    """E_q[z] and the Monte Carlo variance it is known with."""
    mean, square = moments
    try:
        return posterior.mean.double(), torch.zeros_like(mean)
    except NotImplementedError:
        return mean, (square - mean.square()).clamp_min(0) / max(k - 1, 1)


def _variance_of_mean(values: Float[Tensor, "n b"]) -> PerDatum:
    """Variance of a mean over samples; by the delta method that of log mean w too, where the values are K w / sum w."""
    return values.var(0) / len(values) if len(values) > 1 else torch.zeros_like(values[0])
