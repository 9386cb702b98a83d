"""Folders and files that appear whole or not at all, locks, and what a refused command must not leave behind."""

import csv
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
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


def write_table(path: Path, table: "Mapping[str, Tensor]") -> None:
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


PAUSE = 0.05


@contextmanager
def held(path: Path, wait: Callable[[], bool]) -> Iterator[int]:
    """Hold the lock of a file; the block gets its descriptor, and whoever inherits that holds the lock as well.

    Args:
        path: The file; made if need be.
        wait: Asked between two attempts whether to go on waiting.

    Raises:
        BlockingIOError: If another process has it and ``wait`` says no.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _taken(descriptor):
            if not wait():
                raise BlockingIOError(f"{path} is held by another process")
            time.sleep(PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


TRACES_OF_TRAINING = ("checkpoints", "metrics.csv", "result.json")


@dataclass(frozen=True)
class CreatedFolder:
    """The topmost folder that this command creates; nothing outside it is ever removed.

    Args:
        top: The highest ancestor of the run or sweep folder that did not exist before, if any.
    """

    top: Path | None = None

    @classmethod
    def of(cls, folder: Path) -> "CreatedFolder":
        """For a run or sweep folder that is about to be made."""
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        return cls(missing[-1] if missing else None)

    def remove(self, folder: Path) -> None:
        """Remove a run folder in which no training began, and the new parents that it leaves empty."""
        if self.top is None or not folder.is_relative_to(self.top):
            return
        if any((folder / name).exists() for name in TRACES_OF_TRAINING):
            return
        shutil.rmtree(folder)
        for parent in folder.parents:
            if not parent.is_relative_to(self.top) or any(parent.iterdir()):
                return
            parent.rmdir()
