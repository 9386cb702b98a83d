"""A loader that hands out rows, slices of tensors where they are in memory, and knows where it stands."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from taut.data.binarise import Scale
from taut.data.disk_rows import DiskRows
from taut.errors import UserError
from taut.functional.missing import apply_mask
from taut.functional.seeding import generator


class Batch(NamedTuple):
    """The data of a step.

    Args:
        x: Data, shape ``[b, *x_shape]``: float64 for numbers of a table, else of the default float dtype.
        index: Row of each datum in its split, shape ``[b]``: the key of its evaluation noise.
        total: Rows of the global batch over all ranks; ``b`` on one process.
        size: Rows of one optimiser step, where the batch is for several; ``None`` where it is for one.
    """

    x: Float[Tensor, "b *x"]
    index: Int[Tensor, " b"]
    total: int
    size: int | None = None

    def parts(self) -> "list[Batch]":
        """One batch for each optimiser step."""
        if self.size is None:
            return [self]
        pairs = zip(self.x.split(self.size), self.index.split(self.size), strict=True)
        return [Batch(x, index, len(x)) for x, index in pairs]


class Batches:
    """Iterates once over a split; each epoch is a pure function of (seed, epoch).

    Global batch i is rows ``i * batch_size`` to ``(i + 1) * batch_size`` of the epoch's order, and rank r
    takes every ``world``-th of them from the r-th on. Nothing is padded and nothing dropped: a last batch
    with fewer rows than ranks joins the one before. The loader is its own ``sampler``, whose ``set_epoch``
    Lightning calls.

    Args:
        source: Gives the stored rows of an epoch, shape ``[n, *x_shape]``.
        rows: Number n of rows.
        seen: Gives the masks of an epoch, true where a cell is observed; ``None`` where nothing is missing.
        scale: How the source stores numbers.
        batch_size: Rows of a global batch; all rows if ``None`` or more than there are.
        shuffle: Whether the order is a new permutation in each epoch; one batch of all rows keeps theirs.
        seed: Seed of the permutations.
        rank: This process.
        world: Number of processes.
        step: Rows of an optimiser step, where a batch is for several; ``None`` where it is for one.
        binary: Whether all numbers are known to be zeros and ones, none of them missing.

    Raises:
        UserError: If a process would get no row of any batch.
    """

    def __init__(
        self,
        source: Callable[[int], Shaped[Tensor, "n *x"] | DiskRows],
        rows: int,
        *,
        seen: Callable[[int], Bool[Tensor, "n *x"]] | None = None,
        scale: Scale = Scale(),  # noqa: B008 (frozen)
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        step: int | None = None,
        binary: bool = False,
    ) -> None:
        self.source, self.rows, self.seen, self.scale = source, rows, seen, scale
        self.batch_size = min(batch_size or rows, rows)
        self.shuffle, self.seed, self.rank, self.world = shuffle, seed, rank, world
        self.step, self.binary = step, binary
        self._epoch = self._position = 0
        self._resumed = False
        self._data: Shaped[Tensor, "n *x"] | DiskRows
        self._mask: Bool[Tensor, "n *x"] | None
        self._order: Int[Tensor, " n"] | None
        if self.batch_size < world and (shuffle or self.batch_size < rows):
            raise UserError(
                f"A batch of {self.batch_size} rows cannot be shared by {world} processes: "
                f"use data.batch_size={world} or more, or fewer processes."
            )

    @property
    def sampler(self) -> "Batches":
        """The loader itself: Lightning looks here for ``set_epoch``."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: Lightning asks, to tell whether a loader shuffles."""

    def __len__(self) -> int:
        full, rest = divmod(self.rows, self.batch_size)
        return full + (rest >= self.world or full == 0)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: the epoch is read at the first batch, because Lightning calls iter() before set_epoch()
        self._position = self._position if self._resumed else 0
        self._resumed = False
        self._data = self.source(self._epoch)
        self._mask = self.seen(self._epoch) if self.seen else None
        self._order = self._permutation(self._data.device)
        while self._position < len(self):
            yield self.next()
        # or the rows of this epoch would stay in memory while the next ones are drawn
        del self._data, self._mask, self._order

    def next(self) -> Batch:
        """The next batch of the pass that has begun, beside the iterator, which goes on behind it."""
        self._position += 1
        return self._batch(self._position - 1)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; a position loaded for another epoch is forgotten."""
        if epoch != self._epoch:
            self._epoch, self._position, self._resumed = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the number of its batches handed out so far."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "rows": self.rows,
            "batch_size": self.batch_size,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the last batch handed out; behind the last one of an epoch starts the next epoch.

        Raises:
            UserError: If the state was written for other data or another batch size.
        """
        for key in ("rows", "batch_size"):
            if state[key] != getattr(self, key):
                raise UserError(
                    f"The checkpoint was written with {key} = {state[key]} and cannot continue with {key} = "
                    f"{getattr(self, key)}: resume with the data settings it was started with."
                )
        # or a checkpoint at the end of an epoch would resume with an epoch of no batches
        ended = state["position"] >= len(self)
        self._epoch = state["epoch"] + ended
        self._position = 0 if ended else state["position"]
        self._resumed = True

    def _permutation(self, device: torch.device) -> Int[Tensor, " n"] | None:
        """The permutation of an epoch; None where rows stay in order, so that a batch can be a slice without a copy."""
        if not self.shuffle or len(self) == 1:
            return None
        # drawn on the CPU, so that the order is the same on every device
        return torch.from_numpy(generator(self.seed, "order", self._epoch).permutation(self.rows)).to(device)

    def _batch(self, i: int) -> Batch:
        data, seen, order = self._data, self._mask, self._order
        start = i * self.batch_size
        stop = self.rows if i == len(self) - 1 else start + self.batch_size
        # a slice, which is a view: rows in order are not copied
        part = slice(start + self.rank, stop, self.world)
        index = torch.arange(self.rows, device=data.device)[part] if order is None else order[part]
        rows = part if order is None else index
        # whole rows are copied four times as fast as elements are gathered
        gathered = data.index_select(0, index) if isinstance(data, Tensor) and order is not None else data[rows]
        x = self.scale.decode(gathered)
        return Batch(x if seen is None else apply_mask(x, seen[rows]), index, stop - start, self.step)
