"""Numbers from Parquet and Feather files, a record batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from taut.data.readers.columns import EXACT, INEXACT, LARGEST, MISSING, TOO_LARGE, Choice, Columns, choose, named
from taut.errors import UserError

_ROWS = 1 << 16
"""Rows of a batch of a Parquet file."""


def read_arrow(
    path: Path, columns: Choice | None = None, *, holes: bool = False, missing: tuple[float, ...] = ()
) -> Columns:
    """Read the columns of a Parquet file, or of a Feather file (version 2, an Arrow IPC file).

    Args:
        path: The file, by its ending ``.parquet`` or ``.feather`` (``.arrow``, ``.ipc``).
        columns: Names of the columns to read, or their numbers counted from 1, in this order; all if ``None``.
        holes: Whether null and NaN are missing values, read as NaN; refused otherwise.
        missing: Numbers that stand for a missing value.

    Raises:
        UserError: If the file is damaged, or a column or a value in it cannot be used.
    """
    import pyarrow as pa  # here, where it is needed: a fifth of a second

    try:
        schema, batches = _parquet(path) if path.suffix.lower() == ".parquet" else _feather(path)
    except (pa.ArrowException, OSError) as error:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "Feather (version 2)"
        raise UserError(f"{path} is not a complete {kind} file ({_brief(error)}): save it again.") from error
    chosen = choose(path, tuple(schema.names), columns, len(schema))
    fields = [schema.field(i) for i in chosen]
    for field in fields:
        _check_type(path, field)
    blocks = _blocks(path, batches([schema.names[i] for i in chosen]), fields, holes, missing)
    names = named(tuple(schema.names), chosen)
    return Columns(names, len(chosen), blocks)


def _parquet(path: Path) -> tuple[Any, Any]:
    from pyarrow import parquet

    # mapped, and one thread: the cores are torch's
    file = parquet.ParquetFile(path, memory_map=True)
    return file.schema_arrow, lambda names: file.iter_batches(_ROWS, columns=names, use_threads=False)


def _feather(path: Path) -> tuple[Any, Any]:
    import pyarrow as pa

    file = pa.ipc.open_file(pa.memory_map(str(path)))
    batches = (file.get_batch(i) for i in range(file.num_record_batches))
    return file.schema, lambda names: (batch.select(names) for batch in batches)


def _check_type(path: Path, field: Any) -> None:
    from pyarrow import types

    kind = field.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        raise UserError(
            f"{path}: column {field.name!r} holds values of type {kind}, not numbers: choose number columns by "
            "data.columns (no likelihood takes categories), or save it as numbers."
        )


def _blocks(
    path: Path, batches: Iterator[Any], fields: list[Any], holes: bool, missing: tuple[float, ...]
) -> Iterator[np.ndarray]:
    import pyarrow as pa

    start = 0
    try:
        for batch in batches:
            # by place: the order of a batch is that of the file
            columns = [batch.column(batch.schema.get_field_index(field.name)) for field in fields]
            block = np.stack([_numbers(column) for column in columns], 1)
            for j, (field, column) in enumerate(zip(fields, columns, strict=True)):
                _check(f"{path}: row %d, column {field.name!r}", column, block[:, j], start, holes, missing)
            start += len(block)
            yield block
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is damaged behind row {start} ({_brief(error)}): save it again.") from error
    if start == 0:
        raise UserError(f"{path} has columns and no rows: add rows of numbers.")


def _numbers(column: Any) -> np.ndarray:
    import pyarrow as pa

    # unsafe: integers that float64 rounds are refused below, with their place
    values = column.cast(pa.float64(), safe=False)
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def _check(where: str, column: Any, numbers: np.ndarray, start: int, holes: bool, missing: tuple[float, ...]) -> None:
    """Set what stands for a missing value to NaN; refuse what is missing, infinite, too large or inexact."""
    numbers[np.isin(numbers, missing)] = np.nan
    faults = {
        MISSING: np.isnan(numbers) & (not holes),
        "infinite: replace it": np.isinf(numbers),
        f"{TOO_LARGE} the column": np.isfinite(numbers) & (abs(numbers) > LARGEST),
        f"{INEXACT} the column, or leave it out by data.columns": _inexact(column, numbers),
    }
    for remedy, bad in faults.items():
        if bad.any():
            at = int(bad.argmax())
            raise UserError(f"{where % (start + at + 1)} holds {column[at].as_py()}, {remedy}.")


def _inexact(column: Any, numbers: np.ndarray) -> np.ndarray:
    """Integers that float64 may have rounded."""
    from pyarrow import types

    inexact = (abs(numbers) >= EXACT) & types.is_integer(column.type)
    for at in np.flatnonzero(inexact):
        inexact[at] = abs(column[int(at)].as_py()) > EXACT
    return inexact


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
