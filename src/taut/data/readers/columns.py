"""Columns of a table: their names, and the choice of some of them by name or number."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from taut.errors import UserError

Names = tuple[str, ...]
Choice = Sequence[str | int]

MISSING = "a missing value: use what is observed with mask=from_data, or fill it in"
LARGEST = float(np.finfo(np.float32).max)
"""Networks compute in float32, where a larger number would become infinite."""
EXACT = 1 << 53
"""Integers beyond are not float64 numbers."""
TOO_LARGE = f"beyond {LARGEST:.3g}, the largest 32-bit number: rescale"
INEXACT = "beyond 2^53, where whole numbers are lost: rescale"
_NAMELESS = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


class Columns(NamedTuple):
    """Numbers of a table, some rows at a time, so that a file may be larger than the memory.

    Args:
        names: The names of the columns; ``None`` without a header.
        width: Number of columns.
        blocks: Rows in the order of the file, float64 ``[b, d]``, NaN where a value is missing.
    """

    names: Names | None
    width: int
    blocks: Iterator[np.ndarray]


def choose(path: Path, names: Names | None, columns: Choice | None, width: int) -> list[int]:
    """The places, counted from 0, of the columns that are used.

    Args:
        path: The file, for messages.
        names: The names in it, ``None`` without a header; some may be empty.
        columns: Names, or numbers counted from 1; all columns if ``None``.
        width: Number of columns.

    Raises:
        UserError: If a column is not there, is nameless or called like another where all are used, or is named twice.
    """
    if columns is None:
        _refuse_nameless(path, names)
        _refuse_alike(path, names, range(width))
        return list(range(width))
    chosen = [_place(path, names, column, width) for column in columns]
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"data.columns={list(columns)} must name at least one column, and each once.")
    _refuse_alike(path, names, chosen)
    return chosen


def named(names: Names | None, chosen: list[int]) -> Names | None:
    """The names of the chosen columns; one without a name is called by its number."""
    return None if names is None else tuple(names[i] or f"column {i + 1}" for i in chosen)


def _place(path: Path, names: Names | None, column: str | int, width: int) -> int:
    if isinstance(column, int):
        if names is not None and str(column) in names and names.index(str(column)) != column - 1:
            raise UserError(
                f"{path} has a column called '{column}', which is not column {column} counted from 1: write "
                f"data.columns=[\"'{column}'\"] with its quotes for the name, or rename the column."
            )
        if not 1 <= column <= width:
            raise UserError(f"{path} has no column {column}: choose data.columns from 1 to {width}.")
        return column - 1
    if names is None:
        raise UserError(
            f"{path} has no header row, so data.columns cannot be found in it: choose columns by number, from 1 to "
            f"{width}, or add names."
        )
    if column not in names:
        raise UserError(f"{path} has no column {column!r}: choose data.columns from {', '.join(names)}.")
    return names.index(column)


def _refuse_nameless(path: Path, names: Names | None) -> None:
    for i, name in enumerate(names or ()):
        if _NAMELESS.fullmatch(name):
            others = ",".join(str(j + 1) for j, other in enumerate(names or ()) if not _NAMELESS.fullmatch(other))
            called = f", only {name!r}," if name else ""
            raise UserError(
                f"{path}: column {i + 1} has no name{called} in row 1, as an index that pandas wrote: leave it out by "
                f"data.columns=[{others}], or name it."
            )


def _refuse_alike(path: Path, names: Names | None, chosen: Sequence[int]) -> None:
    if names is None:
        return
    seen: dict[str, int] = {}
    for i in chosen:
        if names[i] and names[i] in seen:
            raise UserError(
                f"{path}: columns {seen[names[i]] + 1} and {i + 1} are both called {names[i]!r}: rename one of them, "
                "or choose others by data.columns."
            )
        seen[names[i]] = i
