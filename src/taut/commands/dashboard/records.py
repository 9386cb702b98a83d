"""Offline records of W&B, read back by W&B's own reader: what `wandb sync` would send of each run."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taut.errors import UserError
from taut.files import read_regular

RECORDS = "offline-run-*"
PATIENCE = 60.0
"""Seconds that reading one record may take."""
WORD = re.compile(r"\S+")


@dataclass
class Record:
    """All records of one run, the later over the earlier ones.

    Args:
        name: What the run is called.
        group: The sweep it belongs to; empty for none.
        config: Its settings.
        summary: The last values.
        history: Every row that was logged.
        tables: Rows by the names of their tables.
        pictures: The last picture of each name.
    """

    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[Mapping[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)

    def value(self, key: str) -> Any:
        """Value of ``config:<key>`` or ``summary:<key>``, or None; a dot leads into what is nested."""
        where, _, name = key.partition(":")
        return _inner(self.config if where == "config" else self.summary, name)

    def series(self, x: str, y: str) -> tuple[list[float], list[float]]:
        """The rows that hold both of two values."""
        rows = [row for row in self.history if x in row and y in row]
        return [row[x] for row in rows], [row[y] for row in rows]

    def holds(self, key: str) -> bool:
        """Tell whether the run has logged what a panel names."""
        where, _, name = key.partition(":")
        if where == "table":
            table, _, column = name.rpartition(":")
            return any(column in row for row in self.tables.get(table, ()))
        if where == "picture":
            return name in self.pictures
        return any(name in row for row in self.history) if where == "history" else self.value(key) is not None


def read(folder: Path, sweep: str | None = None) -> list[Record]:
    """The runs in a folder of records, in the order of their first records.

    Args:
        folder: The folder ``wandb``, or the one that holds it.
        sweep: Name of the sweep whose runs are wanted; all runs by default.

    Raises:
        UserError: If there is none, or one cannot be read.
    """
    places = sorted(folder.glob(RECORDS)) or sorted(folder.glob(f"wandb/{RECORDS}"))
    if not places:
        raise UserError(
            f"records={folder} holds no record of W&B; name a folder such as outputs/wandb, to which runs write theirs."
        )
    runs: dict[str, Record] = {}
    for place in places:
        for file in place.glob("*.wandb"):
            _add(runs, place, file)
    found = [run for run in runs.values() if sweep is None or run.group == sweep]
    if not found:
        raise UserError(f"records={folder} holds no run of sweep={sweep}; leave sweep= out for all runs.")
    return found


def _add(runs: dict[str, Record], place: Path, file: Path) -> None:
    (about,) = _inspected(file, "--summary") or [{}]
    entries = _inspected(file)
    run = runs.setdefault(about["run_id"], Record())
    run.name = about["name"] or run.name
    run.group = (
        next((entry["run"].get("run_group", "") for entry in entries if entry["type"] == "run"), "") or run.group
    )
    run.config |= about["config"]
    run.summary |= about["summary"]
    run.history += [entry["history"]["item"] for entry in entries if entry["type"] == "history"]
    for name, value in about["summary"].items():
        for kind, path in _files(value):
            if kind == "table-file":
                run.tables[name] = _rows(place / "files" / path)
            else:
                run.pictures[name] = place / "files" / path


def _inspected(file: Path, *flags: str) -> list[dict[str, Any]]:
    """Output of ``wandb leet inspect --json`` for a record: one object for each entry, or one in all with --summary."""
    # its own reader, without the second that Python takes to import W&B for its command line
    from wandb.util import get_core_path

    command = [get_core_path(), "leet", "inspect", "--json", "--no-observability", *flags]
    command += ["--run-file", str(file), str(file.parent)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE)  # noqa: S603 (W&B's own program)
    if done.returncode:
        raise UserError(f"{file} cannot be read by W&B; remove its folder, or name others with records=.")
    text = done.stdout.decode()
    return [json.loads(text)] if flags else [json.loads(line) for line in text.splitlines()]


def _files(value: Any) -> Iterator[tuple[str, str]]:
    """Kind and path of the files that an entry of a summary names."""
    if isinstance(value, dict) and value.get("_type") == "table-file":
        yield "table-file", value["path"]
    elif isinstance(value, dict) and value.get("_type") == "images/separated":
        yield "image", value["filenames"][-1]


def _rows(path: Path) -> list[dict[str, Any]]:
    table = json.loads(read_regular(path))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def _inner(values: Any, name: str) -> Any:
    """The value of a dotted name: the longest key that is there, and on into it."""
    if not isinstance(values, Mapping) or name in values:
        return values.get(name) if isinstance(values, Mapping) else None
    first, _, rest = name.partition(".")
    while rest:
        if first in values:
            return _inner(values[first], rest)
        more, _, rest = rest.partition(".")
        first = f"{first}.{more}"
    return None


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Short names of runs: the words that not all of them share, or all words of a single one."""
    words = [WORD.findall(name) for name in names]
    shared = set.intersection(*map(set, words)) if len(set(names)) > 1 else set()
    return {
        name: " ".join(word for word in split if word not in shared) for name, split in zip(names, words, strict=True)
    }
