"""Rows that stay on the disk, for data larger than the memory: read a batch at a time, in any order."""

import errno
import tempfile
from collections.abc import Iterator
from math import prod
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from taut.data.readers.array_file import refuse_beyond_memory
from taut.data.readers.columns import Columns
from taut.errors import UserError
from taut.functional.missing import apply_mask

IN_MEMORY = 1 << 30
"""Bytes of the numbers of a data set up to which it is kept in memory, and of the rows that are taken at once of one
that is not. The same on every machine: what is random must not depend on how much memory there is.
"""
STARTING = 1 << 27
"""Bytes of the training rows on the disk that starting values, standardisation included, are chosen from."""
_CHUNK = 1 << 25  # bytes of the parts that all rows are gone through in


class DiskRows:
    """The rows of an array that is mapped from a file, where a tensor of rows could stand.

    Rows are taken by a slice or by their numbers, and come as a tensor on ``device``: bytes as bytes, all other numbers
    as float64.

    Args:
        array: The array, mapped.
        order: Number in the array of each of these rows.
        source: The file, for messages.
        seen: The mask, true where a cell is shown; ``None`` where nothing is hidden.
        device: Where rows are brought.
    """

    def __init__(
        self,
        array: np.ndarray,
        order: Int[np.ndarray, " n"],
        source: str,
        *,
        seen: Bool[Tensor, "n *x"] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.array, self.order, self.source = array, order, source
        self.seen, self.device = seen, torch.device(device)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def shape(self) -> torch.Size:
        """As of a tensor."""
        return torch.Size((len(self), *self.array.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """As of a tensor: ``uint8`` or ``float64``."""
        return torch.uint8 if self.array.dtype in (np.uint8, np.bool_) else torch.float64

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def __getitem__(self, rows: slice | Int[Tensor, " b"]) -> Shaped[Tensor, "b *x"]:
        """Some rows.

        Raises:
            UserError: If they are too many to be taken at once.
        """
        chosen = rows if isinstance(rows, slice) else rows.cpu().numpy()
        places = self.order[chosen]
        self._refuse_too_many(len(places))
        # in the order of the file, so that the disk is read forwards
        forwards = np.argsort(places)
        values = np.empty((len(places), *self.array.shape[1:]), np.uint8 if self.dtype == torch.uint8 else np.float64)
        values[forwards] = self.array[places[forwards]]
        x = torch.from_numpy(values)
        return (x if self.seen is None else apply_mask(x, self.seen[chosen])).to(self.device)

    def split(self, size: int) -> Iterator[Shaped[Tensor, "b *x"]]:
        """All rows in order, so many at a time, or fewer where they are large."""
        size = min(size, max(1, _CHUNK // self.row_bytes))
        return (self[start : start + size] for start in range(0, len(self), size))

    def to(self, device: torch.device | str) -> "DiskRows":
        """The same rows, brought to a device when they are taken."""
        return DiskRows(self.array, self.order, self.source, seen=self.seen, device=device)

    def reordered(self, rows: Int[Tensor, " m"]) -> "DiskRows":
        """Some of the rows, in another order; none is read."""
        return DiskRows(self.array, self.order[rows.numpy()], self.source, device=self.device)

    def masked(self, seen: Bool[Tensor, "n *x"]) -> "DiskRows":
        """The same rows behind a mask."""
        return DiskRows(self.array, self.order, self.source, seen=seen, device=self.device)

    def _refuse_too_many(self, count: int) -> None:
        if count * self.row_bytes > IN_MEMORY:
            raise UserError(
                f"{self.source} is read from the disk, because it is larger than {IN_MEMORY / 2**30:.3g} GiB, and this "
                f"needs {count} of its rows at once, {count * self.row_bytes / 2**30:.3g} GiB: take fewer "
                "(data.batch_size, or limit in an evaluation), leave out what needs all rows (model.n_init above 1), "
                "or train on a part of the file."
            )


def parts(rows: Shaped[Tensor, "n *x"] | DiskRows) -> Iterator[Shaped[Tensor, "b *x"]]:
    """All rows in order, in parts that are small whatever the data."""
    return iter(rows.split(max(1, _CHUNK // max(1, prod(rows.shape[1:]) * rows.dtype.itemsize))))


def first_rows(rows: Shaped[Tensor, "n *x"] | DiskRows, count: int | None = None) -> Shaped[Tensor, "m *x"]:
    """The first ``count`` rows, all if ``None``; of those on the disk, as many of them as ``STARTING`` bytes hold."""
    if isinstance(rows, Tensor):
        return rows[:count]
    most = max(1, STARTING // rows.row_bytes)
    return rows[: most if count is None else min(count, most)]


def gathered(table: Columns, source: str, *, may_stay: bool) -> Float[np.ndarray, "n d"]:
    """All rows of a table: in memory, or mapped from a temporary file where they are too many and ``may_stay``.

    Raises:
        UserError: If the disk has no room for them.
    """
    blocks, size = [], 0
    for block in table.blocks:
        blocks.append(block)
        size += block.nbytes
        if may_stay and size > IN_MEMORY:
            return _spilled(blocks, table, source)
        refuse_beyond_memory(size, source)
    return np.concatenate(blocks)


def _spilled(blocks: list[np.ndarray], table: Columns, source: str) -> np.ndarray:
    # without a name: it is gone with the process, however that ends
    with tempfile.TemporaryFile() as file:
        try:
            while blocks:
                _write(file, blocks.pop(0))
            for block in table.blocks:
                _write(file, block)
            file.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UserError(
                f"{source} is larger than {IN_MEMORY / 2**30:.3g} GiB and is unpacked into {tempfile.gettempdir()}, "
                "which is full: set TMPDIR to a folder on a larger disk, or save the table as .npy."
            ) from error
        return np.memmap(file, dtype=np.float64, mode="r").reshape(-1, table.width)


def _write(file: BinaryIO, block: np.ndarray) -> None:
    file.write(np.ascontiguousarray(block).data)
