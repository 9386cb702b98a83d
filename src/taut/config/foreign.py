"""What a run folder may hold before a command opens it: it may have been copied, damaged, or made by a stranger.

A command that writes into a folder would follow a link there to any file of the user's, and would wait for a pipe for
ever. The folder itself may be a link, and so may those above it: these the user has named.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from taut.errors import UserError
from taut.files import CHECKPOINTS, kind_of, read_regular, reason

FOLDERS = {".hydra": "*", CHECKPOINTS: "*", "figures": "*", "wandb": "id", "mlflow": "id", "tensorboard": "*"}
"""Folders that a run writes into, each with its files that taut writes: W&B makes links of its own beside ``id``."""
FILES = ("*.json", "*.csv", "*.log", "*.txt", ".lock")
"""Files at the top of a run or a sweep."""
REPLACED = (".*", "evaluation*", "completion*", "*.html")
"""What is replaced as a whole: of any kind but no link."""
LARGEST_METRICS = 1_000_000_000
"""Bytes of a metrics file: millions of epochs."""

Row = dict[str, float]


def check_entries(folder: Path, said: str) -> None:
    """Refuse a folder in which something that a command writes to is a link, or no file or folder as it should be.

    Args:
        folder: A run folder, or one that is to become one; it need not exist.
        said: What the user said, e.g. ``run=outputs/runs/a``.

    Raises:
        UserError: Naming the first such entry.
    """
    for name, entry in _written(folder):
        try:
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
        except FileNotFoundError:  # unfinished, and renamed meanwhile by the process that writes it
            continue
        expected = _expected(name)
        if kind not in expected:
            raise UserError(
                f"{said} cannot be used: its {name} is {kind}, and taut writes only to {' or '.join(expected)} inside "
                "a run folder; put the original in its place, or remove it."
            )


def check_jobs(folder: Path, jobs: Iterable[str]) -> None:
    """Refuse a sweep whose folder, or that of one of its jobs, leads elsewhere.

    Args:
        folder: The folder of the sweep.
        jobs: The names of the folders of its jobs, as its plan says.

    Raises:
        UserError: Naming the first entry.
    """
    said = f"The sweep {folder.name}"
    check_entries(folder, said)
    for name in jobs:
        if Path(name).name != name or name in ("", ".."):
            raise UserError(f"{said} cannot be used: its plan names {name!r}, which is not a folder inside it.")
        if (folder / name).is_symlink():
            raise UserError(f"{said} cannot be used: the folder of its job {name} is a link; put the original there.")
        check_entries(folder / name, f"{said}, job {name},")


def read_object(path: Path, remedy: str = "restore it, or remove it") -> dict[str, Any]:
    """A JSON object; empty if the file is not there.

    Raises:
        UserError: If it is there and cannot be read.
    """
    try:
        content = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read: it {reason(error)}; {remedy}.") from error
    except (ValueError, RecursionError) as error:
        what = "is empty" if path.stat().st_size == 0 else "is not whole JSON"
        raise UserError(f"{path} is damaged: it {what}; {remedy}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it should be a JSON object; {remedy}.")
    return content


def read_metrics(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a metrics file; empty cells are left out, and so is a last line that was cut short.

    Raises:
        UserError: If it is no table of numbers by epoch.
    """
    remedy = "restore it, or remove it to go on without the rows of earlier epochs"
    try:
        text = read_regular(path, LARGEST_METRICS).decode("utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = [
            {name: _number(cell) for name, cell in row.items() if cell}
            for row in csv.DictReader(io.StringIO(whole, newline=""), restkey="")
        ]
        if not all("epoch" in row for row in rows):
            raise ValueError("a row has no epoch")
    except OSError as error:
        raise UserError(f"{path} cannot be read: it {reason(error)}; {remedy}.") from error
    # AttributeError: cells beyond the last column come as a list
    except (ValueError, csv.Error, AttributeError) as error:
        raise UserError(f"{path} is damaged: it is not a table of numbers by epoch; {remedy}.") from error
    return rows


def _number(cell: str) -> float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def _written(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Name and entry of what taut writes to in a folder."""
    for entry in _entries(folder):
        if entry.name in FOLDERS or any(fnmatch(entry.name, pattern) for pattern in (*FILES, *REPLACED)):
            yield entry.name, entry
        if entry.name in FOLDERS and entry.is_dir(follow_symlinks=False):
            for below in _entries(folder / entry.name):
                if fnmatch(below.name, FOLDERS[entry.name]):
                    yield f"{entry.name}/{below.name}", below


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read: it {reason(error)}.") from error


def _expected(name: str) -> tuple[str, ...]:
    if name in FOLDERS:
        return ("a folder",)
    if "/" not in name and any(fnmatch(name, pattern) for pattern in FILES):
        return ("a regular file",)
    return "a regular file", "a folder"
