"""Files that may be half-written, damaged or hostile: what can be read of them, and nothing that raises.

A report is made while runs are being written, so no file is trusted: size, depth and types are checked here, once.
"""

import csv
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taut.files import LARGEST, open_regular, read_regular, reason

OF = {"observed": "p(x_obs)", "observed and hidden": "p(x_obs, s)"}
"""What is scored where cells are missing, by what ``result.json`` says of them; s says which cells are observed."""

LARGEST_YAML = 200_000
TAIL = 6_000
"""Bytes of a log that are shown."""


@dataclass
class Reader:
    """Reads the files of one folder and remembers those that could not be read.

    Args:
        folder: Where they lie.
        problems: One sentence for each file that is there and cannot be read.
    """

    folder: Path
    problems: list[str] = field(default_factory=list)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A JSON object; empty if there is none that can be read."""
        text = self.text(name)
        try:
            found = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            return self._unreadable(name, "is not whole JSON")
        return found if isinstance(found, dict) else self._unreadable(name, "is not a JSON object")

    def yaml(self, name: str) -> Any:
        """Content of a YAML file; empty if it cannot be read."""
        from taut.config.plain_yaml import NotPlain, values  # here: --help does without yaml

        text = self.text(name, LARGEST_YAML)
        try:
            return values(text, aliases=False)
        except NotPlain:
            return self._unreadable(name, "is not readable YAML")

    def rows(self, name: str) -> list[dict[str, float]]:
        """The rows of a CSV file of numbers; cells that are none are left out, and a last line that was cut short."""
        text = self.text(name)
        # the run may be writing its last line just now
        whole = text[: text.rfind("\n") + 1]
        try:
            return [_numbers(row) for row in csv.DictReader(io.StringIO(whole, newline=""))]
        except csv.Error:
            self._unreadable(name, "is not a table")
            return []

    def columns(self, name: str, wanted: frozenset[str]) -> dict[str, list[float | None]]:
        """Some columns of a CSV file, ``None`` where there is no finite number."""
        text = self.text(name)
        try:
            rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
            places = {column: i for i, column in enumerate(next(rows, [])) if column in wanted}
            found: dict[str, list[float | None]] = {column: [] for column in places}
            for row in rows:
                for column, i in places.items():
                    found[column].append(number(row[i]) if i < len(row) else None)
        except csv.Error:
            self._unreadable(name, "is not a table")
            return {}
        return found

    def text(self, name: str, largest: int = LARGEST) -> str:
        """A text file; empty if there is none that can be read."""
        path = self.folder / name
        try:
            return read_regular(path, largest).decode("utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            self._unreadable(name, reason(error))
        except ValueError:
            self._unreadable(name, "cannot be read (bad name)")
        return ""

    def tail(self, name: str) -> str:
        """The end of a log, in whole lines."""
        try:
            with open_regular(self.folder / name) as file:
                file.seek(0, os.SEEK_END)
                start = max(0, file.tell() - TAIL)
                file.seek(start)
                text = file.read(TAIL).decode("utf-8", errors="replace")
        except (OSError, ValueError):
            return ""
        return text.partition("\n")[2] if start else text

    def _unreadable(self, name: str, why: str) -> dict[str, Any]:
        self.problems.append(f"{name} {why}")
        return {}


def number(value: Any) -> float | None:
    """A finite number, also one in words; ``None`` for anything else."""
    # a bool is an int in Python
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    # JSON holds integers of any size, and float() overflows on large ones
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number; ``None`` for anything else."""
    found = number(value)
    return int(found) if found is not None and found == int(found) and abs(found) < 1e15 else None


def word(value: Any, longest: int = 200) -> str:
    """A short text, on one line; empty for what is none."""
    if isinstance(value, bool | int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)[:longest]
    return " ".join(value.split())[:longest] if isinstance(value, str) else ""


def legible(path: Path | str) -> str:
    """A path as text that can be written, whatever bytes its name is made of."""
    return str(path).encode("utf-8", errors="replace").decode("utf-8")


def part(value: Any, name: str) -> Mapping[str, Any]:
    """An object inside an object; empty if it is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def numbers(value: Any) -> list[float | None]:
    """A list of numbers; empty if it is none."""
    return [number(one) for one in value] if isinstance(value, list) else []


def _numbers(row: Mapping[str | None, Any]) -> dict[str, float]:
    found = {str(name): number(cell) for name, cell in row.items() if name is not None}
    return {name: value for name, value in found.items() if value is not None}
