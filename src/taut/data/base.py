"""The contract of a data set: splits in memory, batches as slices."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from lightning.pytorch import LightningDataModule
from torch import Tensor

from taut.data import disk_rows
from taut.data.batches import Batch, Batches
from taut.data.binarise import (
    Binarisation,
    Scale,
    bernoulli,
    bernoulli_on_device,
    check_name,
    check_pixels,
    dequantised,
    threshold,
)
from taut.data.disk_rows import DiskRows, parts
from taut.data.mask.base import Mask, TableMask, word_of
from taut.data.mask.cells import FromData, Random
from taut.errors import UserError, nearest
from taut.functional.missing import apply_mask
from taut.functional.seeding import generator

__all__ = ["Batch", "Batches", "Data", "Splits", "check_fractions", "cut", "cut_by_fractions", "digest_of"]

SCORED = 4096
"""Most rows of a batch that is scored: what a score holds grows with rows times samples, and its value does not."""


class Splits(NamedTuple):
    """The rows of a data set, each of shape ``[n, *x_shape]``, in memory or on the disk."""

    train: Shaped[Tensor, "n *x"] | DiskRows
    val: Shaped[Tensor, "m *x"] | DiskRows
    test: Shaped[Tensor, "l *x"] | DiskRows


class Data(LightningDataModule, ABC):
    """A data set, in memory or, where ``load`` says so by :class:`~taut.data.disk_rows.DiskRows`, on the disk.

    Concrete classes are final and implement ``load`` alone. What the splits hold, and what is drawn once for
    validation and test, never depends on ``seed``: runs with different seeds are scored on the same numbers.

    Args:
        batch_size: Rows of a batch over all processes; ``None`` for all rows at once. Scores take 4096 rows at most.
        binarisation: ``dynamic`` (the training split anew in each epoch, the others once), ``fixed`` (all
            once), ``threshold`` (one where x >= 0.5) or ``none``.
        dequantise: ``uniform`` adds to every grey level a number from [0, 1), the training split anew in each epoch,
            the others once, and divides by the number of levels; ``None`` leaves levels as they are.
        shuffle: Whether training rows come in a new order in each epoch.
        seed: Seed of the training order and of the training noise.
        split_seed: Seed of the cut into splits and of every draw made once.
        dir: Folder of the data files; by default ``$TAUT_DATA``, else the user's cache.
        mask: Which cells are observed; ``None`` where nothing may be missing. Missing cells reach a model as NaN.

    Raises:
        UserError: If an argument is out of range, or if values outside [0, 1] are to be binarised.
    """

    name: ClassVar[str]
    scale: Scale = Scale()
    columns: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        batch_size: int | None,
        binarisation: Binarisation = "none",
        dequantise: Literal["uniform"] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        split_seed: int = 0,
        dir: str | Path | None = None,
        mask: Mask | None = None,
    ) -> None:
        super().__init__()
        check_name(binarisation)
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
            raise UserError(f"data.batch_size={batch_size} must be a whole number above 0, or null for all rows.")
        if dequantise not in (None, "uniform"):
            raise UserError(f"data.dequantise={dequantise!r} must be uniform or null.")
        if dequantise and binarisation != "none":
            raise UserError(
                f"data.dequantise=uniform is for grey levels, and data.binarisation={binarisation} leaves none; set "
                "data.binarisation=none, as likelihood=gaussian does, or leave dequantise out."
            )
        if not isinstance(shuffle, bool):
            raise UserError(f"data.shuffle={shuffle!r} must be true or false.")
        if min(seed, split_seed) < 0:
            raise UserError(f"Seeds must be 0 or more, got data.seed={seed} and data.split_seed={split_seed}.")
        self.batch_size, self.binarisation, self.shuffle = batch_size, binarisation, shuffle
        self.seed, self.split_seed, self.dir, self.mask = seed, split_seed, dir, mask
        self.dequantise = dequantise
        self._kept: dict[str, Tensor | DiskRows] = {}

    @abstractmethod
    def load(self) -> Splits:
        """The splits as they are kept in memory: what ``scale`` decodes, pixels to [0, 1]."""

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once; every process may call it, downloads happen once under a lock."""
        _ = self.stored

    @cached_property
    def stored(self) -> Splits:
        """The splits as ``load`` gave them, checked."""
        splits = self.load()
        for split, rows in zip(Splits._fields, splits, strict=True):
            if len(rows) == 0:
                raise UserError(f"{self.name}: the {split} split has no rows: lower the fractions of the others.")
            if self.binarisation != "none" and isinstance(rows, Tensor):
                check_pixels(rows, self.scale, f"{self.name}, {split} split")
            if self.dequantise and rows.dtype != torch.uint8:
                raise UserError(
                    f"{self.name}: data.dequantise=uniform spreads the grey levels of images, and these data are other "
                    "numbers; leave it out."
                )
            # the reader of rows on the disk has refused missing values already
            if self.mask is None and isinstance(rows, Tensor) and rows.isnan().any():
                raise UserError(f"{self.name}: cells of the {split} split are missing; add mask=from_data.")
        return splits

    @property
    def splits(self) -> Splits:
        """The splits as numbers, before any binarisation."""
        return Splits(*(rows if isinstance(rows, DiskRows) else self.scale.decode(rows) for rows in self.stored))

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one datum."""
        return tuple(self.stored.train.shape[1:])

    @property
    def levels(self) -> dict[str, float] | None:
        r"""Grey levels: their number ``count``, and how a level v is a number, $x = (v + offset) / divisor$.

        ``None`` of numbers that are no levels of bytes, as those of a table.
        """
        if self.binarisation != "none":
            return {"count": 2, "divisor": 1, "offset": 0}
        if self.stored.train.dtype != torch.uint8 or self.dequantise:
            return None
        scale = self.scale
        return {"count": scale.count, "divisor": scale.levels, "offset": scale.offset}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the stored splits, with their shapes and types."""
        return digest_of(*self.stored)

    def training_rows(self) -> Float[Tensor, "n *x"] | DiskRows:
        """The training split as epoch 0 sees it, in the order of the split.

        Raises:
            UserError: If a coordinate is observed in no row.
        """
        rows = self.rows_of("train")
        empty = torch.stack([part.isnan().all(0) for part in parts(rows)]).all(0).nonzero()
        if len(empty):
            cell = empty[0].tolist()
            name = repr(self.columns[cell[0]]) if self.columns else f"at {cell}"
            raise UserError(
                f"{self.name}: the column {name} is observed in no training row, so nothing can be learned about it; "
                "leave it out, or choose a mask that shows it somewhere."
            )
        return rows

    def starting_rows(self) -> Float[Tensor, "n *x"]:
        """The training rows that starting values are chosen from: all; of data on the disk 128 MiB of them.

        The training split is in random order, so that these are a random choice.
        """
        return disk_rows.first_rows(self.training_rows())

    def rows_of(self, split: str) -> Float[Tensor, "n *x"] | DiskRows:
        """A split as it is trained on or scored, in its order; the training split as epoch 0 sees it.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            UserError: If there is no such split.
        """
        rows = self.complete_rows_of(split)
        if isinstance(rows, DiskRows):
            return self._behind_mask(rows, split)
        seen = self.seen(split)
        return rows if seen is None else apply_mask(rows, seen)

    def _behind_mask(self, rows: DiskRows, split: str) -> DiskRows:
        # the cells that are missing in the file are NaN as they are read
        if self.mask is None or isinstance(self.mask, FromData):
            return rows
        cells = len(rows) * prod(self.x_shape)
        if cells > disk_rows.IN_MEMORY and isinstance(self.mask, Random):
            raise UserError(
                f"mask=random draws a mask for each of the {len(rows)} rows of the {split} split at once, "
                f"{cells / 2**30:.3g} GiB, and takes {disk_rows.IN_MEMORY / 2**30:.3g} GiB at most: choose "
                "mask=file or from_data, or train on a part of the file."
            )
        return rows.masked(self._mask_of(split))

    def _mask_of(self, split: str) -> Bool[Tensor, "n *x"]:
        seen = self.seen(split)
        assert seen is not None
        return seen

    def complete_rows_of(self, split: str) -> Float[Tensor, "n *x"] | DiskRows:
        """A split with what the mask hides: the truth that completions are held against."""
        if split not in Splits._fields:
            raise UserError(f"There is no split {split!r}; {nearest(split, Splits._fields)}")
        binarised = self._binarised(split)
        if isinstance(binarised, DiskRows):
            return binarised
        rows = self._decode(binarised)
        stored = getattr(self.stored, split)
        return apply_mask(rows, ~stored.isnan()) if self.mask is not None and stored.is_floating_point() else rows

    def seen(self, split: str, epoch: int = 0) -> Bool[Tensor, "n *x"] | None:
        """The mask of a split, true where a cell is shown; ``None`` without one.

        Raises:
            UserError: If the mask does not fit the data.
        """
        if self.mask is None:
            return None
        fresh = split == "train" and self.mask.fresh
        stream = f"train/{epoch}" if fresh else self._first_of(split)
        rows = len(getattr(self.stored, split))
        if isinstance(self.mask, TableMask):
            complete = self.complete_rows_of(split)
            if isinstance(complete, DiskRows):
                raise UserError(
                    f"mask={word_of(self.mask)} takes all {rows} rows of the {split} split at once, and these stay on "
                    "the disk; choose mask=random, file or from_data."
                )
            return self.mask.observed(complete)
        return self.mask.draw(rows, self.x_shape, seed=self.seed if fresh else self.split_seed, stream=stream)

    def _first_of(self, split: str) -> str:
        """The first split that has these rows: what is hidden in training stays hidden where it is scored."""
        own = getattr(self.stored, split)
        # by identity: splits share one tensor where one is scored on the rows of another
        return next(name for name, rows in zip(Splits._fields, self.stored, strict=True) if rows is own)

    @property
    def held_out(self) -> bool:
        """True if the test rows are others than the training rows."""
        return self.stored.test is not self.stored.train

    def train_dataloader(self) -> Batches:
        """Batches of the training split, in a new order each epoch unless ``shuffle`` is false."""
        return self._batches("train")

    def val_dataloader(self) -> Batches:
        """Batches of the validation split, in order."""
        return self._batches("val")

    def test_dataloader(self) -> Batches:
        """Batches of the test split, in order."""
        return self._batches("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Nothing to do: the data lie where they are used."""
        del device, dataloader_idx
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The digest of the data a checkpoint was trained on."""
        return {"digest": self.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise ``UserError`` when a checkpoint was trained on other data."""
        if state_dict["digest"] != self.digest:
            raise UserError(
                f"{self.name}: the data are not those the checkpoint was trained on: restore the file it "
                "read, or start a new run."
            )

    def _batches(self, split: str) -> Batches:
        trainer, training = self.trainer, split == "train"
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        if training and (self.binarisation == "dynamic" or self.dequantise):
            source = self._changing(device)
        else:
            stored = self._binarised(split)
            stored = (self._behind_mask(stored, split) if isinstance(stored, DiskRows) else stored).to(device)
            source = lambda epoch: stored  # noqa: E731
        rows = len(getattr(self.stored, split))
        # where all rows are one batch there is nothing to bundle
        steps = getattr(trainer.strategy, "steps_per_batch", 1) if trainer and training and self.batch_size else 1
        trained = self.batch_size and self.batch_size * steps
        seen = self._seen(split, device)
        return Batches(
            source,
            rows,
            seen=seen,
            scale=self._code,
            batch_size=trained if training else min(self.batch_size or rows, SCORED),
            step=self.batch_size if steps > 1 else None,
            # batches to overfit are the same in every epoch
            shuffle=training and self.shuffle and not getattr(trainer, "overfit_batches", 0),
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1,
            binary=self.binarisation != "none" and seen is None,
        )

    def _changing(self, device: torch.device) -> Callable[[int], Tensor]:
        """The training split of an epoch, made binary or spread where it is used."""
        if device.type == "cpu":
            return lambda epoch: self._draw("train", self.seed, epoch)
        if self.dequantise:
            return lambda epoch: self._draw("train", self.seed, epoch).to(device)
        # moved once; an epoch then draws noise there and copies nothing
        rows = self.stored.train[:].to(device)
        return lambda epoch: bernoulli_on_device(rows, self.scale, self.seed, "train", epoch)

    def _seen(self, split: str, device: torch.device) -> Callable[[int], Tensor] | None:
        """The masks of an epoch; a fixed one is made once, with the cells the data lack."""
        # rows on the disk come with their missing cells
        if self.mask is None or isinstance(getattr(self.stored, split), DiskRows):
            return None
        if split == "train" and self.mask.fresh:
            return lambda epoch: self.seen("train", epoch).to(device) & self._known("train", device)  # type: ignore[union-attr]
        # made here, so that epochs do not draw and copy the same mask again
        seen = (~self.rows_of(split)[:].isnan()).to(device)
        return lambda epoch: seen

    def _known(self, split: str, device: torch.device) -> Tensor:
        """Mask of the cells that the data came with."""
        return ~getattr(self.stored, split)[:].isnan().to(device)

    def _binarised(self, split: str) -> Shaped[Tensor, "n *x"] | DiskRows:
        if split not in self._kept:
            self._kept[split] = self._binarise(split)
        return self._kept[split]

    def _binarise(self, split: str) -> Shaped[Tensor, "n *x"] | DiskRows:
        if self.dequantise:
            return self._draw(split, self.seed if split == "train" else self.split_seed, 0)
        if self.binarisation == "none":
            return getattr(self.stored, split)
        if self.binarisation == "threshold":
            return threshold(getattr(self.stored, split), self.scale)
        changing = split == "train" and self.binarisation == "dynamic"
        return self._draw(split, self.seed if changing else self.split_seed, 0)

    def _draw(self, split: str, seed: int, epoch: int) -> Shaped[Tensor, "n *x"]:
        if self.dequantise:
            return dequantised(getattr(self.stored, split), self.scale.count, seed, split, epoch)
        return bernoulli(getattr(self.stored, split), self.scale, seed, split, epoch)

    def _decode(self, rows: Shaped[Tensor, "n *x"]) -> Float[Tensor, "n *x"]:
        return self._code.decode(rows)

    @property
    def _code(self) -> Scale:
        """How what is handed out is stored: as the file has it, unless it was drawn."""
        return self.scale if self.binarisation == "none" and not self.dequantise else Scale()


def digest_of(*arrays: Shaped[Tensor, "n *x"] | DiskRows) -> str:
    """SHA-256 of rows, with their shapes and types."""
    sha = hashlib.sha256()
    for rows in arrays:
        # type and shape as well: other arrays may have the same bytes
        sha.update(f"{rows.dtype}{tuple(rows.shape)}".encode())
        for part in parts(rows):
            sha.update(part.contiguous().numpy().data)
    return sha.hexdigest()


def cut(rows: Shaped[Tensor, "n *x"] | DiskRows, val: int, test: int, seed: int) -> Splits:
    """Permute the rows by the seed and cut them into n - val - test, val and test rows."""
    order = torch.from_numpy(generator(seed, "cut").permutation(len(rows)))
    train = len(rows) - val - test
    chosen = order.split([train, val, test])
    if isinstance(rows, DiskRows):
        return Splits(*(rows.reordered(part) for part in chosen))
    return Splits(*(rows[part] for part in chosen))


def check_fractions(val: float, test: float) -> None:
    """Raise ``UserError`` unless both parts are 0 or more and leave rows for training."""
    if min(val, test) < 0 or val + test >= 1:
        raise UserError(
            f"data.val_fraction={val} and data.test_fraction={test} must be 0 or more and leave rows for training: "
            "choose fractions whose sum is below 1."
        )


def cut_by_fractions(
    rows: Shaped[Tensor, "n *x"] | DiskRows, val: float, test: float, *, seed: int, source: str
) -> Splits:
    """Cut off parts of the rows for validation and test; of a part of 0 the split is the training rows.

    Args:
        rows: The rows.
        val: Part for validation.
        test: Part for the test.
        seed: Seed of the permutation.
        source: What has how many rows, for a message.

    Raises:
        UserError: If a part above 0 leaves no row.
    """
    sizes = {"val": round(len(rows) * val), "test": round(len(rows) * test)}
    for part, fraction in (("val", val), ("test", test)):
        if fraction > 0 and sizes[part] == 0:
            raise UserError(
                f"{source}, of which data.{part}_fraction={fraction} leaves none: raise it, or set it to 0 to score "
                "the training rows."
            )
    train, held_out, last = cut(rows, sizes["val"], sizes["test"], seed)
    return Splits(train, held_out if sizes["val"] else train, last if sizes["test"] else train)
