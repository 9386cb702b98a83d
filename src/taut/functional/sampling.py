"""Keyed draws: the noise of a datum depends on (seed, split, row, block of samples) and on nothing else.

So a score does not depend on batch mates, on the chunk size, or on how data or samples are shared among processes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torch.distributions import Distribution

from taut.errors import UserError
from taut.functional import seeding
from taut.functional.precision import in_double, refuse_degenerate
from taut.functional.types import LogWeights

BLOCK = 512
"""Samples of one datum that share a seed."""

ROWS = {"cpu": 5 * BLOCK, "cuda": 65536}
"""Latent draws scored at once: on a CPU few enough for its cache, and enough to be worth waking the threads."""

Proposal = Callable[[Any], Distribution]
"""The distribution of z for some rows of a batch, a slice or their numbers: batch ``(n,)``, event ``z_shape``.

z is drawn in its precision, float64 for every q of this package, and scored in float64."""


@dataclass(frozen=True)
class Keys:
    """What the noise of a batch is keyed by.

    Args:
        index: Row of each datum in its split.
        seed: Seed of the noise.
        split: Name of the split, or of what else the noise is for.
    """

    index: Int[Tensor, " b"]
    seed: int
    split: str

    def of(self, purpose: str) -> "Keys":
        """The keys of noise that serves another purpose on the same data."""
        return Keys(self.index, self.seed, f"{self.split}/{purpose}")

    def seeds(self, counter: int = 0, counters: int = 1) -> list[int]:
        """One seed for each datum."""
        return [seeding.key(self.seed, self.split, row * counters + counter) for row in self.index.tolist()]


@dataclass(frozen=True)
class Share:
    """The blocks of samples that one of several processes draws.

    Args:
        rank: This process.
        world: Number of processes the samples of every datum are divided among.
    """

    rank: int = 0
    world: int = 1

    def part(self, count: int) -> range:
        """Which of so many blocks are this process's."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def whole(self, parts: Tensor) -> Tensor:
        """The samples of all processes: each one holds zeros where the others drew."""
        if self.world > 1:
            distributed.all_reduce(parts)
        return parts


class Block(NamedTuple):
    """Some samples of some data: which rows, which samples, the draws and their log-density, in float64."""

    rows: slice
    samples: slice
    z: Float[Tensor, "n b *z"]
    log_q: Float[Tensor, "n b"]


def blocks(
    proposal: Proposal,
    keys: Keys,
    k: int,
    *,
    rows: int | None = None,
    share: Share = Share(),
) -> Iterator[Block]:
    """All draws of a batch, at most about ``rows`` at a time.

    Each datum is drawn from, and scored under, a proposal of its own: a network's output for the same datum differs by
    roundings between batches, and a narrow q scored by another batch's output would be another distribution.

    Use it inside :func:`taut.functional.seeding.forked`: the default generators are seeded anew for each datum and
    block.

    Args:
        proposal: Where z is drawn from.
        keys: What the noise is keyed by.
        k: Number of samples K of each datum.
        rows: Draws held at once.
        share: The blocks of this process.
    """
    device = keys.index.device
    most = rows or ROWS.get(device.type, ROWS["cpu"])
    together = max(1, most // BLOCK)
    data = max(1, most // min(k, together * BLOCK))
    count = -(-k // BLOCK)
    for first in range(0, len(keys.index), data):
        chunk = slice(first, min(first + data, len(keys.index)))
        ids = Keys(keys.index[chunk], keys.seed, keys.split)
        each = [proposal(slice(i, i + 1)) for i in range(chunk.start, chunk.stop)]
        for row, one in zip(ids.index.tolist(), each, strict=True):
            refuse_degenerate(one, f"The distribution of z for row {row}")
        own = share.part(count)
        for start in own[::together]:
            some = range(start, min(start + together, own.stop))
            sizes = [min(BLOCK, k - block * BLOCK) for block in some]
            seeds = zip(*(ids.seeds(block, count) for block in some), strict=True)
            drawn = [_drawn(one, sizes, keyed, device) for one, keyed in zip(each, seeds, strict=True)]
            z, log_q = (torch.cat(parts, 1) for parts in zip(*drawn, strict=True))
            yield Block(chunk, slice(start * BLOCK, min(some.stop * BLOCK, k)), z, log_q)


def log_weights(
    log_joint: Callable[[Tensor, Tensor], Tensor],
    proposal: Proposal,
    x: Float[Tensor, "b *x"],
    keys: Keys,
    k: int,
    *,
    rows: int | None = None,
    share: Share = Share(),
) -> LogWeights:
    r"""$\log w = \log p(x, z) - \log q(z)$ of K draws for each datum, in float64."""
    out = torch.zeros((k, len(x)), dtype=torch.float64, device=x.device)
    with seeding.forked(x.device):
        for block in blocks(proposal, keys, k, rows=rows, share=share):
            log_p = log_joint(x[block.rows], block.z)
            _refuse_shape("log_joint(x, z)", log_p, block.z)
            out[block.samples, block.rows] = log_p.double() - block.log_q
    return share.whole(out)


def _refuse_shape(what: str, values: Tensor, z: Tensor) -> None:
    if values.shape != z.shape[:2]:
        raise UserError(
            f"{what} has shape {list(values.shape)} and z {list(z.shape)}; it must be {list(z.shape[:2])}, [k, b]: "
            "one number for each sample and datum, summed over the axes of z and x."
        )


def _drawn(
    q: Distribution, sizes: Sequence[int], seeds: Sequence[int], device: torch.device
) -> tuple[Float[Tensor, "n 1 *z"], Float[Tensor, "n 1"]]:
    """Blocks of draws of one datum, and their log-density."""
    z = torch.cat([_seeded(q, size, seed, device) for size, seed in zip(sizes, seeds, strict=True)])
    log_q = in_double(q).log_prob(z.double())
    _refuse_shape("q(x).log_prob(z)", log_q, z)
    return z, log_q


def _seeded(distribution: Distribution, size: int, key: int, device: torch.device) -> Tensor:
    seeding.seed(key, device)
    return distribution.sample((size,))
