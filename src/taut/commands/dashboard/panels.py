"""Kinds of panels of the dashboard: what each draws of the records of runs, at W&B and in a picture.

A panel names what it draws by the keys of a run's record: ``config:<key>``, ``summary:<key>`` (the last value),
``history:<key>`` (every value), ``picture:<key>``, and ``table:<key>:<column>`` for the rows that
``training.loggers.tables`` writes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from wandb_workspaces.reports.v2 import interface as wr

from taut.commands.dashboard.records import Record
from taut.commands.dashboard.runs import Run, name_rows
from taut.report.figures.bound import k_axis
from taut.report.figures.style import GREY, HALO, bare, precise

NATS = "nats per datum"
K, K_NAME = "config:k", "K of the training bound"
LEGEND = "${run:displayName}"
PALE = 0.5
"""Opacity of the second of two numbers."""


@dataclass(frozen=True)
class Panel(ABC):
    """One panel, defined once for W&B and for the picture.

    Args:
        title: What it shows.
        width: Quarters of a row that it takes.
    """

    title: str
    width: int = field(default=1, kw_only=True)

    names_runs: ClassVar[bool] = False
    """Whether the names of runs stand at the left of its axes."""

    @property
    def keys(self) -> Sequence[str]:
        """Keys of a record that it draws."""
        return ()

    def shows(self, record: Record) -> bool:
        """Tell whether a run has logged what is drawn."""
        return all(record.holds(key) for key in self.keys)

    @abstractmethod
    def for_wandb(self, entity: str) -> Any:
        """The panel of W&B.

        Args:
            entity: W&B user or team whose charts are used.
        """

    @abstractmethod
    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        """Draw it of the runs that it shows, one or more.

        Args:
            axes: Empty axes.
            runs: The runs.
        """


@dataclass(frozen=True)
class Points(Panel):
    """A point for every run, one number against another.

    Args:
        y: Key of the vertical axis.
        y_name: What it is, and its unit.
        x: Key of the horizontal axis, which is logarithmic for the K of the training. Any other is what ``y``
            is compared with, and equal ones lie on a diagonal.
        x_name: What it is, and its unit.
    """

    y: str
    y_name: str
    x: str = K
    x_name: str = K_NAME

    @property
    def keys(self) -> Sequence[str]:
        return self.x, self.y

    def for_wandb(self, entity: str) -> Any:
        x, y = _metric(self.x), _metric(self.y)
        return wr.ScatterPlot(title=self.title, x=x, y=y, log_x=self.x == K or None, legend_template=LEGEND)

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        x, y = (np.array([run.number(key) for run in runs]) for key in (self.x, self.y))
        axes.scatter(x, y, s=30, c=[run.colour for run in runs], alpha=0.8, edgecolors="white", linewidths=0.6)
        if self.x == K:
            k_axis(axes, np.unique(x).astype(int))
        else:
            ends = [min(x.min(), y.min()), max(x.max(), y.max())]
            axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=(0, (5, 3)), zorder=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(self.x_name, fontsize=9)
        axes.set_ylabel(self.y_name, fontsize=9)


@dataclass(frozen=True)
class Lines(Panel):
    """A line for every run, against the epoch or against a number of samples.

    Args:
        names: What is on the vertical axis: its words by its keys in the history, one or two.
        unit: What it is measured in.
        x: Key in the history of the horizontal axis, which is logarithmic but for the epoch.
        x_name: What that is.
    """

    names: Mapping[str, str]
    unit: str = NATS
    x: str = "epoch"
    x_name: str = "epoch"

    @property
    def keys(self) -> Sequence[str]:
        return [f"history:{name}" for name in (self.x, *self.names)]

    def for_wandb(self, entity: str) -> Any:
        return wr.LinePlot(
            title=self.title,
            x=self.x,
            y=list(self.names),
            log_x=self.x != "epoch" or None,
            title_x=self.x_name,
            title_y=self.unit,
            legend_template=LEGEND,
        )

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        places = set()
        for name, style in zip(self.names, ("-", (0, (4, 2))), strict=False):
            for run in runs:
                x, y = run.record.series(self.x, name)
                places |= set(x)
                axes.plot(x, y, color=run.colour, linestyle=style, marker="o", markersize=3, linewidth=1.3, alpha=0.8)
        if self.x == "epoch":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        else:
            k_axis(axes, np.array(sorted(places)).astype(int))
        axes.set_xlabel(_told(self.names, ("solid", "dashed"), self.x_name), fontsize=9)
        axes.set_ylabel(self.unit, fontsize=9)


@dataclass(frozen=True)
class Bars(Panel):
    """Bars for every run, one for each number, from zero.

    Args:
        names: What they show: words by keys in the summary, one or two.
        unit: What they are measured in.
    """

    names: Mapping[str, str]
    unit: str

    names_runs = True

    @property
    def keys(self) -> Sequence[str]:
        return [f"summary:{name}" for name in self.names]

    def shows(self, record: Record) -> bool:
        """Tell whether a run has logged one of the numbers."""
        return any(record.holds(key) for key in self.keys)

    def for_wandb(self, entity: str) -> Any:
        return wr.BarPlot(title=self.title, metrics=list(self.names), title_x=self.unit, legend_template=LEGEND)

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        height = 0.8 / len(self.names)
        for place, key in enumerate(self.keys):
            values = [run.number(key) for run in runs]
            tints = [(*run.colour, PALE if place else 1.0) for run in runs]
            axes.barh(np.arange(len(values))[::-1] + 0.4 - (place + 0.5) * height, values, height, color=tints)
        name_rows(axes, [run.label for run in runs])
        axes.set_xlabel(_told(self.names, ("full", "pale"), self.unit), fontsize=9)


@dataclass(frozen=True)
class Picture(Panel):
    """The last picture of a name of every run; in the preview that of the last run.

    Args:
        name: Its name in the record.
    """

    name: str
    width: int = field(default=2, kw_only=True)

    @property
    def keys(self) -> Sequence[str]:
        return (f"picture:{self.name}",)

    def for_wandb(self, entity: str) -> Any:
        return wr.MediaBrowser(title=self.title, media_keys=[self.name], num_columns=2)

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        bare(axes)
        axes.imshow(imread(runs[-1].record.pictures[self.name]), interpolation="antialiased")
        axes.set_xlabel(runs[-1].label, fontsize=9, color=GREY)


@dataclass(frozen=True)
class Parallel(Panel):
    """A line for every run through what it is made of and what it reaches.

    Args:
        columns: Key of each axis, by its name; that of K is logarithmic.
    """

    columns: Mapping[str, str]
    width: int = field(default=4, kw_only=True)

    @property
    def keys(self) -> Sequence[str]:
        return list(self.columns.values())

    def for_wandb(self, entity: str) -> Any:
        columns = [
            wr.ParallelCoordinatesPlotColumn(metric=_metric(key), display_name=name, log=key == K or None)
            for name, key in self.columns.items()
        ]
        return wr.ParallelCoordinatesPlot(title=self.title, columns=columns)

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        columns = [_axis([run.record.value(key) for run in runs], key == K) for key in self.keys]
        places = range(len(columns))
        for place, run in enumerate(runs):
            axes.plot(places, [heights[place] for heights, _ in columns], color=run.colour, linewidth=1.6, alpha=0.8)
        for place, (_, ticks) in enumerate(columns):
            axes.axvline(place, color=GREY, linewidth=0.9)
            for height, word in ticks:
                look = {"textcoords": "offset points", "va": "center", "fontsize": 9, "path_effects": HALO}
                axes.annotate(word, (place, height), (5, 0), **look)
        axes.set_xticks(places, list(self.columns))
        axes.set(yticks=[], xlim=(-0.1, len(columns) - 0.5), ylim=(-0.1, 1.1))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)


@dataclass(frozen=True)
class Differences(Panel):
    """A table of the settings in which the runs differ, beside their scores."""

    width: int = field(default=4, kw_only=True)

    def for_wandb(self, entity: str) -> Any:
        return wr.RunComparer(diff_only="split")

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        bare(axes)
        differing = _differing([dict(_flat(run.record.config)) for run in runs])
        scores = {"test/elbo": "ELBO", "test/log_px": "log p(x)", "test/gap": "gap", "test/warnings": "warnings"}
        cells = [
            [values[place] for values in differing.values()]
            + [_cell(run.record.value(f"summary:{name}")) for name in scores]
            for place, run in enumerate(runs)
        ]
        rows = len(cells) + 1
        height = min(1.0, 0.085 * rows)
        box = Bbox.from_bounds(0.0, 1.0 - height, 1.0, height)
        heads = [*differing, *scores.values()]
        table = axes.table(cells, colLabels=heads, bbox=box, cellLoc="right", colLoc="right", edges="horizontal")
        table.auto_set_font_size(False)
        table.set_fontsize(min(9.0, 150 / rows))
        for cell in table.get_celld().values():
            cell.set_edgecolor("#E5E7EB")


def _metric(key: str) -> wr.Config | wr.SummaryMetric:
    where, _, name = key.partition(":")
    return wr.Config(name) if where == "config" else wr.SummaryMetric(name)


def _told(names: Mapping[str, str], looks: Sequence[str], axis: str) -> str:
    """Name of an axis, and how two numbers are told apart."""
    told = ", ".join(f"{word} ({look})" for word, look in zip(names.values(), looks, strict=False))
    return f"{axis} · {told}" if len(names) > 1 else axis


def _axis(values: Sequence[Any], logarithmic: bool) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights of the values of one axis between 0 and 1, and its ticks."""
    words = list(dict.fromkeys(str(value) for value in values))
    if not all(isinstance(value, int | float) for value in values):
        height = {word: (place + 0.5) / len(words) for place, word in enumerate(words)}
        return [height[str(value)] for value in values], [(height[word], word) for word in words]
    numbers = np.log(values) if logarithmic else np.asarray(values, dtype=float)
    low, span = numbers.min(), np.ptp(numbers) or 1.0
    heights = ((numbers - low) / span).tolist()
    if all(isinstance(value, int) for value in values):
        return heights, sorted({height: str(value) for height, value in zip(heights, values, strict=True)}.items())
    return heights, [(0.0, precise(min(values), float(span))), (1.0, precise(max(values), float(span)))]


def _differing(settings: Sequence[Mapping[str, str]], most: int = 8) -> dict[str, list[str]]:
    """Values of the settings that tell runs apart, of those that divide the runs alike the least nested one."""
    found: dict[tuple[int, ...], tuple[str, list[str]]] = {}
    keys = dict.fromkeys(key for one in settings for key in one if not key.startswith("sweep."))
    for key in sorted(keys, key=lambda key: key.count(".")):
        values = [one.get(key, "") for one in settings]
        found.setdefault(tuple(map(values.index, values)), (key, values))
    return dict([column for parts, column in found.items() if any(parts)][:most])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}".removeprefix("choices."), str(value)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)
