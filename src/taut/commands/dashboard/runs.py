"""The runs that are drawn in the picture of the dashboard: their order, short names and colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from taut.commands.dashboard.records import Record, short_names
from taut.report.figures.style import colours

SERIES = ("model", "prior", "q")
"""Choices that tell lines apart where the axis is K; seeds are repetitions of one line."""
MOST = 24
"""Runs that have room."""
LETTERS = 24
"""Letters of a name that have room beside axes."""


@dataclass(frozen=True)
class Run:
    """One run that is drawn.

    Args:
        record: What it has logged.
        label: Its short name.
        series: Name of the series that it belongs to: those that differ in K and seed alone.
        colour: The colour of the series.
    """

    record: Record
    label: str
    series: str
    colour: tuple[float, float, float]

    def number(self, key: str) -> float:
        """The number under a key of the record, or NaN."""
        return number(self.record.value(key))


def chosen(records: Sequence[Record]) -> list[Run]:
    """The first runs that have room, by series, then by K and seed."""
    kept = sorted(records, key=_order)[:MOST]
    series = short_names([_series(record) for record in kept])
    colour = dict(zip(series, colours(len(series)), strict=True))
    label = short_names([record.name for record in kept])
    return [
        Run(record, label[record.name], series[name] or name, colour[name])
        for record, name in ((record, _series(record)) for record in kept)
    ]


def rows_of(runs: Sequence[Run], table: str) -> list[tuple[Run, dict[str, Any]]]:
    """The rows of a table of all runs, each beside its run."""
    return [(run, row) for run in runs for row in run.record.tables[table]]


def number(value: Any) -> float:
    """The number, or NaN for what is none."""
    return float(value) if isinstance(value, int | float) else np.nan


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of axes from top to bottom."""
    short = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    axes.set_yticks(np.arange(len(names))[::-1], short, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")


def _order(record: Record) -> tuple[Any, ...]:
    return _series(record), number(record.value("config:k")), number(record.value("config:seed"))


def _series(record: Record) -> str:
    return " ".join(str(record.value(f"config:choices.{name}")) for name in SERIES)
