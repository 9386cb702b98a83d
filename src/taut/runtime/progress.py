"""Progress of an evaluation: a bar with images per second and the time left, or a few lines without a terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET = 5.0
"""Seconds between two lines where there is no terminal."""


class Stages:
    """Shows one stage after another.

    Args:
        shown: Whether to show anything; false on all processes but the first.
    """

    def __init__(self, shown: bool = True) -> None:
        self.console = Console()
        self.shown = shown
        self.bar = _bar() if shown and self.console.is_terminal else None

    @contextmanager
    def running(self) -> Iterator["Stages"]:
        """Keep the bar on the screen while stages run."""
        if self.bar is None:
            yield self
        else:
            with self.bar:
                yield self

    def stage(self, name: str, images: int) -> "Stage":
        """A stage that will work through so many images."""
        task = None if self.bar is None else self.bar.add_task(name, total=1.0, news="")
        return Stage(self, name, images, task)


class Stage:
    """One stage; ``at`` tells how much of it is done.

    Args:
        stages: Where it is shown.
        name: What it does.
        images: Number of images it works through.
        task: Its bar, if there is a terminal.
    """

    def __init__(self, stages: Stages, name: str, images: int, task: TaskID | None) -> None:
        self.stages, self.name, self.images, self.task = stages, name, images, task
        self.started = self.told = time.perf_counter()

    def at(self, share: float) -> None:
        """Show that this share of the work, 0 to 1, is done."""
        if not self.stages.shown:
            return
        seconds = time.perf_counter() - self.started
        rate = self.images * share / max(seconds, 1e-9)
        news = f"{self.images * share:,.0f}/{self.images:,} images, {rate:,.1f}/s"
        if self.stages.bar is not None and self.task is not None:
            self.stages.bar.update(self.task, completed=share, news=news)
        elif share > 0 and time.perf_counter() - self.told > QUIET:
            self.told = time.perf_counter()
            left = seconds / share - seconds
            self.stages.console.print(f"{self.name}: {news}, {left:.0f} s left", highlight=False)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[news]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        refresh_per_second=4,
    )
