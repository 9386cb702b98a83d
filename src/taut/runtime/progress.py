"""Progress of a fit or an evaluation: bars on a terminal, a few lines where there is none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0
"""Least time between two lines of a stage where there is no terminal."""
GROWTH = 0.25
"""Share of the time gone by that passes before the next line: 27 lines in an hour, and not one for each slow row."""


class Bars:
    """Bars on the terminal, one below the other, with the elapsed time, the time left and room for news.

    Args:
        shown: Whether to show anything; false on all processes but the first.
        refresh_per_second: How often the terminal is redrawn.
    """

    def __init__(self, shown: bool = True, refresh_per_second: float = 4) -> None:
        self.console = Console()
        self.shown = shown
        self.on_terminal = shown and self.console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=refresh_per_second,
            disable=not self.on_terminal,
        )

    def start(self) -> None:
        """Draw the bars from now on."""
        self._progress.start()

    def stop(self) -> None:
        """Leave the bars as they are, and the terminal to others."""
        self._progress.stop()

    def add(self, description: str, total: float | None, news: str = "") -> TaskID:
        """A new bar; ``total`` is None where the end is not known."""
        return self._progress.add_task(description, total=total, news=news)

    def update(self, bar: TaskID, **fields: Any) -> None:
        """Change what a bar shows: ``completed``, ``description``, ``news``."""
        self._progress.update(bar, **fields)

    def print(self, line: str) -> None:
        """Print a line in the place of a bar, where there is no terminal."""
        if self.shown and not self.on_terminal:
            self.console.print(line, highlight=False)


class Stages:
    """The stages of an evaluation, one bar for each.

    Args:
        shown: Whether to show anything; false on all processes but the first.
    """

    def __init__(self, shown: bool = True) -> None:
        self.bars = Bars(shown)

    @contextmanager
    def running(self) -> Iterator["Stages"]:
        """Keep the bars on the screen while stages run."""
        self.bars.start()
        try:
            yield self
        finally:
            self.bars.stop()

    def stage(self, name: str, rows: int) -> "Stage":
        """A stage that will work through so many rows."""
        return Stage(self.bars, name, rows)


class Stage:
    """One stage; ``at`` tells how much of it is done.

    Args:
        bars: Where it is shown.
        name: What it does.
        rows: Number of rows it works through.
    """

    def __init__(self, bars: Bars, name: str, rows: int) -> None:
        self.bars, self.name, self.rows = bars, name, rows
        self.bar = bars.add(name, total=1.0)
        self.started = self.printed = time.perf_counter()

    def at(self, share: float) -> None:
        """Show that this share of the work, 0 to 1, is done."""
        now = time.perf_counter()
        seconds = now - self.started
        # a clock of low resolution may not have moved
        rate = self.rows * share / max(seconds, 1e-9)
        news = f"{self.rows * share:,.0f}/{self.rows:,} rows, {rate:,.1f}/s"
        self.bars.update(self.bar, completed=share, news=news)
        if share > 0 and now - self.printed > max(SECONDS_BETWEEN_LINES, GROWTH * seconds):
            self.printed = now
            self.bars.print(f"{self.name}: {news}, {seconds / share - seconds:.0f} s left")
