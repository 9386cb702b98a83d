"""Keys of evaluation noise: the noise of a datum depends on (seed, split, row, block of samples) and on nothing else.

So a score does not depend on batch mates, on the chunk size, or on how data or samples are shared among processes.
:func:`taut.model.draws.draw_keyed` draws by these keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, distributed
from torch.distributions import Distribution

from taut.functional import seeding

BLOCK_SIZE = 512
"""Samples of one datum that share a seed."""

CHUNK_SIZE = {"cpu": 5 * BLOCK_SIZE, "cuda": 65536}
"""Latent draws scored at once: on a CPU few enough for its cache, and enough to be worth waking the threads."""

Proposal = Callable[[Any], Distribution]
"""The distribution of z for some rows of a batch, a slice or their numbers: batch ``(n,)``, event ``z_shape``.

z is drawn in its precision, float64 for every q of this package, and scored in float64."""


def chunk_size_on(device: torch.device) -> int:
    """Latent draws that this device scores at once; a device without an entry counts as a CPU."""
    return CHUNK_SIZE.get(device.type, CHUNK_SIZE["cpu"])


@dataclass(frozen=True)
class NoiseKeys:
    """Keys of the noise of a batch.

    Args:
        index: Row of each datum in its split.
        seed: Seed of the noise.
        split: Name of the split, or of what else the noise is for.
    """

    index: Int[Tensor, " b"]
    seed: int
    split: str

    def for_purpose(self, purpose: str) -> "NoiseKeys":
        """Keys of noise that serves another purpose on the same data."""
        return NoiseKeys(self.index, self.seed, f"{self.split}/{purpose}")

    def select(self, rows: slice) -> "NoiseKeys":
        """Keys of some of the data."""
        return NoiseKeys(self.index[rows], self.seed, self.split)

    def seeds(self, block: int = 0, blocks: int = 1) -> list[int]:
        """One seed for each datum, of one of its blocks of samples."""
        return [seeding.key(self.seed, self.split, row * blocks + block) for row in self.index.tolist()]

    def generators(self, device: torch.device) -> list[torch.Generator]:
        """One stream of noise for each datum."""
        return [torch.Generator(device).manual_seed(seed) for seed in self.seeds()]


@dataclass(frozen=True)
class ProcessShare:
    """The blocks of samples that one of several processes draws.

    Args:
        rank: This process.
        world: Number of processes the samples of every datum are divided among.
    """

    rank: int = 0
    world: int = 1

    def blocks(self, count: int) -> range:
        """Blocks of this process, out of so many."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def merge(self, parts: Tensor) -> Tensor:
        """Add the samples of all processes up: each one holds zeros where the others drew."""
        if self.world > 1:
            distributed.all_reduce(parts)
        return parts
