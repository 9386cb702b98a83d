"""The data that are to be completed: those of the run behind a mask, or a table of the user with empty cells."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from taut.config.instantiate import instance
from taut.data.base import Data
from taut.data.binarise import Scale
from taut.data.mask.base import Mask, TableMask
from taut.data.mask.cells import FromData
from taut.data.table import ARROW, Table
from taut.errors import UserError
from taut.functional.missing import apply_mask
from taut.training.module import LatentVariableModel

DEFAULT_LIMIT = 100
"""Rows of a split that are completed unless ``limit`` says otherwise."""


@dataclass(frozen=True)
class CompleteInput:
    """Data with missing cells.

    Args:
        x: The data, NaN where a cell is missing.
        truth: The data with what the mask hides; NaN where nobody knows.
        split: The split they are from, or ``table``: part of what their noise is keyed by.
        held_out: Whether they are others than the training rows.
        table: The user's table, if it is one.
        order: The place in the table of each column of the model.
    """

    x: Float[Tensor, "n *x"]
    truth: Float[Tensor, "n *x"]
    split: str
    held_out: bool
    table: Table | None = None
    order: tuple[int, ...] = ()

    @property
    def observed_share(self) -> float:
        """Share of the cells that are observed."""
        # torch takes no mean of booleans
        return (~self.x.isnan()).double().mean().item()


def complete_input(cfg: DictConfig, data: Data, model: LatentVariableModel) -> CompleteInput:
    """The data that ``cfg`` names, behind its mask.

    Raises:
        UserError: If the mask does not fit, or the table is not like the data of the run.
    """
    mask = instance(cfg.mask, Mask) if is_choice(cfg.mask) else None
    if is_choice(cfg.data):
        return _of_table(cfg, data, model, mask or FromData())
    data.mask = mask or data.mask or FromData()
    rows = slice(DEFAULT_LIMIT if cfg.limit == "auto" else cfg.limit)
    held_out = data.held_out and cfg.split != "train"
    x, truth = data.rows_of(cfg.split)[rows], data.complete_rows_of(cfg.split)[rows]
    return CompleteInput(x, truth, cfg.split, held_out)


def is_choice(node: DictConfig | None) -> bool:
    """Tell whether the command has data or a mask of its own; else ``path`` says where those of the run are now."""
    return node is not None and "_target_" in node


def _of_table(cfg: DictConfig, data: Data, model: LatentVariableModel, mask: Mask) -> CompleteInput:
    table = instance(cfg.data, Data, mask=FromData())
    if not isinstance(table, Table):
        raise UserError(
            f"data={table.name} cannot be completed by this run, which was trained on {data.name}; leave data out to "
            "complete the run's own data, or give a table: data=table data.path=<file>."
        )
    values = torch.from_numpy(table.read())
    order = _columns(table, data, values)
    truth = values[:, list(order)] if values.dim() == 2 else values
    truth = Scale().decode(truth[: None if cfg.limit == "auto" else cfg.limit])
    model.joint.likelihood.check(truth)
    drawn = isinstance(mask, TableMask)
    seen = mask.observed(truth) if drawn else mask.draw(len(truth), data.x_shape, seed=cfg.seed, stream="table")
    x = apply_mask(truth, seen)
    own = isinstance(data, Table) and table.path.resolve() == data.path.resolve()
    return CompleteInput(x, truth, "table", not own, table, order)


def _columns(table: Table, data: Data, values: Tensor) -> tuple[int, ...]:
    """The place in the table of each column of the model: by name if both have names, else in order."""
    given, trained = table.columns, data.columns
    if given is not None and trained is not None and set(given) != set(trained):
        unknown, missing = [n for n in given if n not in trained], [n for n in trained if n not in given]
        parts = [f"has no column {missing[0]!r}"] if missing else []
        parts += [f"has a column {unknown[0]!r} that was not there at training"] if unknown else []
        raise UserError(
            f"{table.path} {' and '.join(parts)}; give the {len(trained)} columns of the run, in any order, and leave "
            "others out by data.columns."
        )
    if tuple(values.shape[1:]) != data.x_shape:
        raise UserError(
            f"{table.path} holds data of shape {list(values.shape[1:])}, but the run was trained on {data.name} of "
            f"shape {list(data.x_shape)}; give a table of that shape, or another run."
        )
    if given is None or trained is None:
        return tuple(range(values[0].numel()))
    return tuple(given.index(name) for name in trained)


def refuse_output(path: Path, *, overwrite: bool) -> None:
    """Refuse an output file before any work is done.

    Raises:
        UserError: If it exists, cannot be written to, or is of an unknown kind.
    """
    if path.suffix.lower() not in (".csv", ".npy", *ARROW):
        raise UserError(
            f"out={path}: the kind of file {path.suffix!r} is unknown; write a .csv, .npy, .parquet or .feather file."
        )
    if path.exists() and not overwrite:
        raise UserError(f"out={path} exists; choose another file, or add overwrite=true.")
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise UserError(f"out={path} cannot be written: {path.absolute().parent} is not a directory; make it first.")
