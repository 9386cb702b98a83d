"""K draws of z for each datum, with every log-density that a bound or a surrogate can ask for.

:func:`draw` serves training: one reparameterised pass over a batch, with a graph. :func:`draw_keyed` serves evaluation
and completion: noise keyed per datum (:mod:`taut.functional.sampling`), each z scored by the very q it was drawn from,
chunk by chunk, so that the z of all K are never held. What only needs some z of a seed, or the density of a z it
already has, takes :func:`draw_seeded` and :func:`log_prob_in_double`.

Nothing here assumes more of p(z), p(x|z) and q(z|x) than a ``Distribution`` with ``sample`` or ``rsample`` and
``log_prob``. z is one tensor: that of several stochastic layers is their concatenation along the event axis, drawn and
scored by chain distributions from ``prior()`` and ``q(x)``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.errors import UserError
from taut.functional import seeding
from taut.functional.bounds import normalised_weights
from taut.functional.precision import in_double, refuse_degenerate
from taut.functional.resampling import resample
from taut.functional.sampling import BLOCK_SIZE, NoiseKeys, ProcessShare, Proposal, chunk_size_on
from taut.functional.types import LogWeights
from taut.model.joint import Joint


@dataclass(frozen=True)
class LogDensities:
    r"""Log-densities of $K$ draws for each datum, in nats.

    $\log w_{kb} = \log p(x_b \mid z_{kb}) + \log p(z_{kb}) - \log q(z_{kb} \mid x_b)$.

    Args:
        log_px: Log-likelihood $\log p(x \mid z)$, shape ``[k, b]``.
        log_pz: Log-prior, shape ``[k, b]``.
        log_qz: Log-density of the proposal, shape ``[k, b]``.
    """

    log_px: LogWeights
    log_pz: LogWeights
    log_qz: LogWeights

    @property
    def log_w(self) -> LogWeights:
        """The log-weights, shape ``[k, b]``, nats: what every reported bound reads."""
        return self.log_px + self.log_pz - self.log_qz


def score(
    joint: Joint,
    prior: Distribution,
    x: Float[Tensor, "b *x"],
    z: Float[Tensor, "k b *z"],
    log_q: Callable[[Tensor], Tensor],
) -> LogDensities:
    r"""Score draws of z.

    Args:
        joint: $p(x, z)$.
        prior: Its $p(z)$, built once for all calls.
        x: Data.
        z: Draws for each datum.
        log_q: $\log q(z \mid x)$ of the q that z was drawn from. It is asked last: the order of the three decides the
            order in which gradients are added up, and so their last bits.
    """
    return LogDensities(log_px=joint.likelihood(z).log_prob(x), log_pz=prior.log_prob(z), log_qz=log_q(z))


@dataclass(frozen=True)
class Resampled:
    r"""Weights of all K draws where the backward pass goes through few of them.

    Args:
        log_w: Log-weights of all draws, without a graph.
        normalised: Normalised weights $\tilde w$ of the few among all, under KL warm-up where there is one.
        weights: What each of the few counts with in the gradient; $\tilde w$ of all draws on average.
    """

    log_w: LogWeights
    normalised: Float[Tensor, "m b"]
    weights: Float[Tensor, "m b"]


@dataclass(frozen=True)
class Draws(LogDensities):
    r"""$K$ latent draws for each datum of one forward pass, with their log-densities.

    Args:
        log_px: Log-likelihood $\log p(x \mid z)$, shape ``[k, b]``.
        log_pz: Log-prior, shape ``[k, b]``.
        log_qz: Log-density of the proposal, shape ``[k, b]``.
        x: The data, shape ``[b, *x]``.
        z: Latent draws, shape ``[k, b, *z]``, the sample axis first.
        prior: The distribution $p(z)$ the draws were scored with.
        q: The distribution $q(z \mid x)$ the draws came from, batch shape ``[b]``.
        kl_weight: Weight of $\log p(z) - \log q(z \mid x)$ in what is minimised; never in what is reported.
        resampled: What is known of all draws, where these are few of them.
    """

    x: Float[Tensor, "b *x"]
    z: Float[Tensor, "k b *z"]
    prior: Distribution
    q: Distribution
    kl_weight: float = 1.0
    resampled: Resampled | None = None

    @property
    def log_w_detached(self) -> LogWeights:
        """The log-weights a bound is reported of: all of them, without a graph."""
        return self.log_w.detach() if self.resampled is None else self.resampled.log_w

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
    sample: Callable[[Distribution, int], Tensor] | None = None,
) -> Draws:
    r"""Draw K z for each x, with every log-density that a bound or a surrogate can ask for.

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
        sample: From q and K to draws ``[k, b, *z]`` that each have its density; reparameterised ones, where q can do
            that, if None.
    """
    posterior = q(x)
    if sample is not None:
        z = sample(posterior, k)
    else:  # not reparameterised (a category): objectives add a score-function term
        z = posterior.rsample((k,)) if posterior.has_rsample else posterior.sample((k,))
    if backward is None or backward >= k:
        return _scored(joint, q, posterior, x, z, path_only, kl_weight)
    with torch.no_grad():  # a pass without a graph through all K costs less than going back through them
        all_draws = _scored(joint, q, posterior, x, z, False, kl_weight)
        weights = normalised_weights(all_draws.tempered_log_w)
        index, kept_weights = resample(weights, backward, torch.rand(len(x), device=x.device))
    kept = z.gather(0, index.reshape(*index.shape, *[1] * (z.dim() - 2)).expand(-1, -1, *z.shape[2:]))
    draws = _scored(joint, q, posterior, x, kept, path_only, kl_weight)
    return replace(draws, resampled=Resampled(all_draws.log_w, weights.gather(0, index), kept_weights))


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
    log_q = (lambda z: _frozen_log_prob(q, x, z)) if path_only else posterior.log_prob
    densities = score(joint, prior, x, z, log_q)
    # on a processor alone: a GPU computes with subnormal numbers as fast as with others
    if len(z) > 1 and densities.log_px.requires_grad and x.device.type == "cpu":
        densities.log_px.register_hook(without_traces)
    return Draws(**vars(densities), x=x, z=z, prior=prior, q=posterior, kl_weight=kl_weight)


TRACE = 1e-15
"""Share of the largest gradient of a datum below which another one is nothing to its sum, in float64 as in float32."""


def without_traces(gradient: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
    r"""The gradient by $\log w$ without draws that count for less than its rounding.

    A draw 90 nats behind the best has a weight of $10^{-39}$, a subnormal number of float32, and so is all that it is
    multiplied with on the way back through the decoder: a processor takes up to a hundred times as long for each.
    """
    size = gradient.abs()
    return torch.where(size < TRACE * size.amax(0), 0.0, gradient)


class _LogProb(nn.Module):
    def __init__(self, q: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.q = q
        # parameters of the model that q draws with are q's own here
        self.borrowed = getattr(q, "borrowed", None)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.q(x).log_prob(z)


def _frozen_log_prob(q: Callable[[Tensor], Distribution], x: Tensor, z: Tensor) -> Tensor:
    scorer = _LogProb(q)
    # constant for this call alone: z still leads back to the parameters themselves
    frozen = {name: value.detach() for name, value in scorer.named_parameters()}
    return torch.func.functional_call(scorer, frozen, (x, z))


class KeyedDraws(NamedTuple):
    """Some samples of some data, drawn by their keys.

    Args:
        rows: The data, in the batch.
        samples: The samples, among the K of each datum.
        z: The draws, in the precision of the proposal.
        log_qz: Log-density of each under the proposal of its datum, float64.
    """

    rows: slice
    samples: slice
    z: Float[Tensor, "n b *z"]
    log_qz: Float[Tensor, "n b"]

    def log_densities(self, joint: Joint, prior: Distribution, x: Float[Tensor, "all *x"]) -> LogDensities:
        """Score the draws under a model; x is the whole batch."""
        return score(joint, prior, x[self.rows], self.z, lambda _: self.log_qz)

    def log_weights(
        self, log_joint: Callable[[Tensor, Tensor], Tensor], x: Float[Tensor, "all *x"]
    ) -> Float[Tensor, "n b"]:
        """Score the draws under any ``log_joint(x, z)``, in float64; x is the whole batch."""
        log_p = log_joint(x[self.rows], self.z)
        _refuse_shape("log_joint(x, z)", log_p, self.z)
        return log_p.double() - self.log_qz


def draw_keyed(
    proposal: Proposal,
    keys: NoiseKeys,
    k: int,
    *,
    chunk_size: int | None = None,
    share: ProcessShare = ProcessShare(),  # noqa: B008 (frozen)
) -> Iterator[KeyedDraws]:
    """Draw K z for each datum of a batch, at most about ``chunk_size`` at a time.

    Each datum is drawn from, and scored under, a proposal of its own: a network's output for the same datum differs by
    roundings between batches, and a narrow q scored by another batch's output would be another distribution.

    Use it inside :func:`taut.functional.seeding.forked`: the default generators are seeded anew for each datum and
    block.

    Args:
        proposal: Where z is drawn from.
        keys: What the noise is keyed by.
        k: Number of samples K of each datum.
        chunk_size: Draws held at once.
        share: The blocks of samples of this process.

    Raises:
        RunError: If the scale of a proposal is lost in the rounding of its draws.
    """
    device = keys.index.device
    size = chunk_size or chunk_size_on(device)
    blocks_at_once = max(1, size // BLOCK_SIZE)
    data_at_once = max(1, size // min(k, blocks_at_once * BLOCK_SIZE))
    count = -(-k // BLOCK_SIZE)
    own = share.blocks(count)
    for first in range(0, len(keys.index), data_at_once):
        rows = slice(first, min(first + data_at_once, len(keys.index)))
        row_keys = keys.select(rows)
        proposals = [proposal(slice(i, i + 1)) for i in range(rows.start, rows.stop)]
        for row, q in zip(row_keys.index.tolist(), proposals, strict=True):
            refuse_degenerate(q, f"The distribution of z for row {row}")
        for start in own[::blocks_at_once]:
            blocks = range(start, min(start + blocks_at_once, own.stop))
            sizes = [min(BLOCK_SIZE, k - block * BLOCK_SIZE) for block in blocks]
            seeds = zip(*(row_keys.seeds(block, count) for block in blocks), strict=True)
            drawn = [_draw_blocks(q, sizes, own_seeds, device) for q, own_seeds in zip(proposals, seeds, strict=True)]
            z, log_qz = (torch.cat(parts, 1) for parts in zip(*drawn, strict=True))
            yield KeyedDraws(rows, slice(start * BLOCK_SIZE, min(blocks.stop * BLOCK_SIZE, k)), z, log_qz)


def log_weights(
    log_joint: Callable[[Tensor, Tensor], Tensor],
    proposal: Proposal,
    x: Float[Tensor, "b *x"],
    keys: NoiseKeys,
    k: int,
    *,
    share: ProcessShare = ProcessShare(),  # noqa: B008 (frozen)
) -> LogWeights:
    r"""$\log w = \log p(x, z) - \log q(z)$ of K keyed draws for each datum, in float64; no z is kept."""
    # zeros, because merge adds up what the processes drew
    log_w = torch.zeros((k, len(x)), dtype=torch.float64, device=x.device)
    with seeding.forked(x.device):
        for drawn in draw_keyed(proposal, keys, k, share=share):
            log_w[drawn.samples, drawn.rows] = drawn.log_weights(log_joint, x)
    return share.merge(log_w)


def weighted_draws(
    log_joint: Callable[[Tensor, Tensor], Tensor] | None,
    proposal: Proposal,
    x: Float[Tensor, "b *x"],
    keys: NoiseKeys,
    k: int,
) -> tuple[Float[Tensor, "k b *z"], LogWeights]:
    r"""K keyed draws for each datum, and their log-weights: all 0 where ``log_joint`` is None, for q = posterior.

    Use it inside :func:`taut.functional.seeding.forked`.
    """
    log_w = torch.zeros((k, len(x)), dtype=torch.float64, device=x.device)
    z = None
    for drawn in draw_keyed(proposal, keys, k):
        # the precision of z is that of the proposal, known from its draws
        z = drawn.z.new_empty(k, len(x), *drawn.z.shape[2:]) if z is None else z
        z[drawn.samples, drawn.rows] = drawn.z
        if log_joint is not None:
            log_w[drawn.samples, drawn.rows] = drawn.log_weights(log_joint, x)
    assert z is not None
    return z, log_w


def draw_seeded(distribution: Distribution, n: int, seed: int, device: torch.device) -> Float[Tensor, "n *z"]:
    """Draw n z from the stream of a seed; use it inside :func:`taut.functional.seeding.forked`."""
    seeding.seed(seed, device)
    return distribution.sample((n,))


def log_prob_in_double(q: Distribution, z: Float[Tensor, "n b *z"]) -> Float[Tensor, "n b"]:
    """Score given z under the very q they came from, in float64 whatever the precision of q.

    Raises:
        UserError: If the density has an axis too many.
    """
    log_qz = in_double(q).log_prob(z.double())
    _refuse_shape("q(x).log_prob(z)", log_qz, z)
    return log_qz


def _draw_blocks(
    q: Distribution, sizes: Sequence[int], seeds: Sequence[int], device: torch.device
) -> tuple[Float[Tensor, "n 1 *z"], Float[Tensor, "n 1"]]:
    """Draw blocks of one datum, each from a seed of its own, and score them."""
    z = torch.cat([draw_seeded(q, size, seed, device) for size, seed in zip(sizes, seeds, strict=True)])
    return z, log_prob_in_double(q, z)


def _refuse_shape(what: str, values: Tensor, z: Tensor) -> None:
    """Refuse densities of another shape than one number per draw: broadcasting would make a number of them."""
    if values.shape != z.shape[:2]:
        raise UserError(
            f"{what} has shape {list(values.shape)} and z {list(z.shape)}; it must be {list(z.shape[:2])}, [k, b]: "
            "one number for each sample and datum, summed over the axes of z and x."
        )
