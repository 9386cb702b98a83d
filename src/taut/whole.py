"""Folders and files that appear whole or not at all."""

import csv
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` at the end, or of nothing if the block raises."""
    _tidy(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        yield partial
        _replace(folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """JSON for people: indented, and without NaN, which is none."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: Mapping[str, Tensor]) -> None:
    """One row per datum; an empty cell where there is no number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *table])
        for row, values in enumerate(zip(*(column.tolist() for column in table.values()), strict=True)):
            writer.writerow([row, *("" if math.isnan(value) else repr(value) for value in values)])


def _replace(folder: Path, partial: Path) -> None:
    """Put the new folder where the old one was, which is gone only afterwards."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Sweep away what killed processes left, and put back the folder that one of them was about to replace."""
    for left in folder.parent.glob(f".{folder.name}.*.*"):
        process = left.suffixes[-2].removeprefix(".")
        if left.suffix not in (".part", ".old") or not process.isdigit() or _alive(int(process)):
            continue
        if left.suffix == ".old" and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
