"""Panels that W&B has no kind for: intervals, stacked parts, means over seeds, a histogram with a line.

Each draws the rows of one table of all runs: at W&B by a Vega-Lite specification, in which ``${field:<name>}`` stands
for a column and ``${string:title}`` for the title, and in the picture by ``draw``.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from wandb_workspaces.reports.v2 import interface as wr

from taut.commands.dashboard.panels import K_NAME, NATS, Panel
from taut.commands.dashboard.runs import SERIES, Run, name_rows, number, rows_of
from taut.report.figures.bound import k_axis
from taut.report.figures.style import BLUE, GREY, INK, OKABE_ITO, ORANGE

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Schema that a specification names; nothing is read from there."""
TITLE = "${string:title}"
RUN = {"title": None, "sort": None, "axis": {"labelLimit": 130}}
"""Names of runs on an axis, in the order of the runs and not of the alphabet; what tells them apart comes first."""
BY_SERIES = {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "bottom"}}
"""A colour for each series."""
TRUSTED_KHAT = 0.7
"""Largest k-hat of weights whose mean is to be trusted (Vehtari et al., 2024)."""


def _column(name: str, kind: str = "quantitative", **more: Any) -> dict[str, Any]:
    return {"field": f"${{field:{name}}}", "type": kind, **more}


def _value(name: str) -> str:
    return f"datum['${{field:{name}}}']"


SERIES_NAMED = [{"calculate": " + ' ' + ".join(map(_value, SERIES)), "as": "series"}]


@dataclass(frozen=True)
class Chart(Panel):
    """A panel of the rows of a table of all runs.

    Args:
        table: Name of the table.
    """

    table: str

    kind: ClassVar[str]
    """Its name among the charts of a user."""
    vega_lite: ClassVar[Mapping[str, Any]]
    """What its specification adds to those of all charts."""
    columns: ClassVar[Sequence[str]] = ()
    """Fields of the specification that are columns of the same name."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Column of the table for each field of the specification."""
        return {name: name for name in self.columns}

    @property
    def keys(self) -> Sequence[str]:
        return [f"table:{self.table}:{column}" for column in self.fields.values()]

    @property
    def specification(self) -> dict[str, Any]:
        """The Vega-Lite specification, for any table."""
        return {"$schema": SCHEMA, "data": {"name": "wandb"}, "title": TITLE, "width": "container", **self.vega_lite}

    @property
    def chart_name(self) -> str:
        """The name among the charts of a user at W&B, another one whenever the specification changes."""
        digest = hashlib.sha256(json.dumps(self.specification, sort_keys=True).encode()).hexdigest()[:8]
        return f"taut-{self.kind}-{digest}"

    def for_wandb(self, entity: str) -> Any:
        return wr.CustomChart(
            query={"summaryTable": {"tableKey": self.table}},
            chart_name=f"{entity}/{self.chart_name}",
            chart_fields=dict(self.fields),
            chart_strings={"title": self.title},
        )


def _whisker(name: str) -> dict[str, Any]:
    """One standard error to both sides."""
    value, error = _value(name), _value(f"{name}_error")
    return {
        "transform": [
            {"filter": f"isValid({value}) && isValid({error})"},
            {"calculate": f"{value} - {error}", "as": "from"},
            {"calculate": f"{value} + {error}", "as": "to"},
        ],
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
    }


@dataclass(frozen=True)
class Interval(Chart):
    """A bar from a lower to an upper end, with standard errors, and an arrow where there is no upper one.

    Args:
        low: Column of the lower end; that of its error has the same name and ``_error``.
        high: Column of the upper end.
    """

    low: str
    high: str

    names_runs = True
    kind = "interval"
    columns = ("run", *SERIES)
    vega_lite: ClassVar = {
        "transform": SERIES_NAMED,
        "encoding": {"y": _column("run", "nominal", **RUN), "color": BY_SERIES},
        "layer": [
            {
                "transform": [{"filter": f"isValid({_value('high')})"}],
                "mark": {"type": "bar", "height": 10, "opacity": 0.55},
                "encoding": {
                    "x": _column("low", title=NATS, scale={"zero": False}),
                    "x2": {"field": "${field:high}"},
                },
            },
            {
                "transform": [{"filter": f"isValid({_value('low')}) && !isValid({_value('high')})"}],
                "mark": {"type": "point", "shape": "triangle-right", "filled": True, "size": 90},
                "encoding": {"x": _column("low", title=NATS, scale={"zero": False})},
            },
            _whisker("low"),
            _whisker("high"),
        ],
    }

    @property
    def fields(self) -> Mapping[str, str]:
        ends = {"low": self.low, "high": self.high}
        errors = {f"{end}_error": f"{column}_error" for end, column in ends.items()}
        return {**super().fields, **ends, **errors}

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        rows = rows_of(runs, self.table)
        for place, (run, row) in zip(range(len(rows))[::-1], rows, strict=True):
            low, high = number(row[self.low]), number(row[self.high])
            if np.isfinite(high):
                axes.barh(place, high - low, 0.5, low, color=run.colour, alpha=0.45)
            else:
                axes.plot(low, place, marker=">", color=run.colour)
            for column, end in ((self.low, low), (self.high, high)):
                axes.errorbar(end, place, xerr=number(row[f"{column}_error"]), color=run.colour, capsize=3)
        name_rows(axes, [run.label for run, _ in rows])
        axes.set_xlabel(NATS, fontsize=9)


@dataclass(frozen=True)
class Stacked(Chart):
    """The mean of every part over the rows of a run, on top of one another."""

    names_runs = True
    kind = "stacked"
    columns = ("run", "part", "value")
    vega_lite: ClassVar = {
        "mark": {"type": "bar"},
        "encoding": {
            "y": _column("run", "nominal", **RUN),
            "x": _column("value", aggregate="mean", stack="zero", title=NATS),
            "color": _column("part", "nominal", title=None, legend={"orient": "bottom"}),
        },
    }

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        rows = rows_of(runs, self.table)
        names = list(dict.fromkeys(run.label for run, _ in rows))
        parts = dict.fromkeys(row["part"] for _, row in rows)
        ends = {1: np.zeros(len(names)), -1: np.zeros(len(names))}
        for part, colour in zip(parts, (ORANGE, BLUE, *OKABE_ITO[2:]), strict=False):
            known = {run.label: number(row["value"]) for run, row in rows if row["part"] == part}
            values = np.array([known.get(name, 0.0) for name in names])
            starts = np.where(values < 0, ends[-1], ends[1])
            axes.barh(np.arange(len(names))[::-1], values, 0.65, starts, color=colour, label=part)
            ends = {1: ends[1] + np.maximum(values, 0), -1: ends[-1] + np.minimum(values, 0)}
        name_rows(axes, names)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(NATS, fontsize=9)
        # beside the title: inside it would lie on a bar
        above = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 2}
        axes.legend(fontsize=8, handlelength=1, columnspacing=1, borderaxespad=0.1, **above)


@dataclass(frozen=True)
class GapAgainstK(Chart):
    """Means over the seeds of one K, and every run as a point; a line never joins what differs but in K."""

    kind = "gap-against-k"
    columns = ("k", "gap", *SERIES)
    vega_lite: ClassVar = {
        "transform": SERIES_NAMED,
        "encoding": {
            "x": _column(
                "k",
                scale={"type": "log", "nice": False, "padding": 12},
                axis={"format": "d", "tickCount": 4},
                title=K_NAME,
            ),
            "color": BY_SERIES,
        },
        "layer": [
            {"mark": mark, "encoding": {"y": _column("gap", title=f"gap, {NATS}", scale={"zero": False}, **more)}}
            for mark, more in (
                ({"type": "line"}, {"aggregate": "mean"}),
                ({"type": "errorbar", "extent": "stderr"}, {}),
                ({"type": "point", "filled": True}, {}),
            )
        ],
    }

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        by_colour: dict[Any, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for run, row in rows_of(runs, self.table):
            by_colour[run.colour][row["k"]].append(row["gap"])
        for colour, gaps in by_colour.items():
            ks = sorted(gaps)
            means = [np.mean(gaps[k]) for k in ks]
            errors = [np.std(gaps[k], ddof=1) / np.sqrt(len(gaps[k])) if len(gaps[k]) > 1 else 0.0 for k in ks]
            axes.errorbar(ks, means, yerr=errors, color=colour, marker="o", markersize=4, capsize=3, elinewidth=1.2)
            places = [(k, gap) for k in ks for gap in gaps[k]]
            axes.scatter(*zip(*places, strict=True), s=14, color=colour, alpha=0.5)
        k_axis(axes, np.array(sorted({k for gaps in by_colour.values() for k in gaps})))
        axes.set_xlabel(K_NAME, fontsize=9)
        axes.set_ylabel(f"gap, {NATS}", fontsize=9)


@dataclass(frozen=True)
class KhatHistogram(Chart):
    """Numbers of data by their k-hat, and a line where trust ends."""

    kind = "khat-histogram"
    columns = ("khat", "model", "k")
    vega_lite: ClassVar = {
        "transform": [{"calculate": f"{_value('model')} + ' k=' + {_value('k')}", "as": "series"}],
        "layer": [
            {
                # steps around the middles of the bins: many series of bars would hide one another
                "mark": {"type": "area", "interpolate": "step", "fillOpacity": 0.12, "line": True},
                "encoding": {
                    "x": _column("khat", bin={"step": 0.1}, title="k-hat"),
                    "y": {"aggregate": "count", "type": "quantitative", "stack": None, "title": "number of data"},
                    "color": BY_SERIES,
                },
            },
            {
                "mark": {"type": "rule", "color": GREY, "strokeDash": [5, 3]},
                "encoding": {"x": {"datum": TRUSTED_KHAT, "type": "quantitative"}},
            },
        ],
    }

    def draw(self, axes: Axes, runs: Sequence[Run]) -> None:
        rows = rows_of(runs, self.table)
        values = np.array([row["khat"] for _, row in rows])
        edges = np.arange(np.floor(10 * values.min()), np.ceil(10 * max(values.max(), TRUSTED_KHAT + 0.1)) + 1) / 10
        for colour in dict.fromkeys(run.colour for run in runs):
            own = [row["khat"] for run, row in rows if run.colour == colour]
            axes.hist(own, edges, histtype="stepfilled", facecolor=(*colour, 0.25), edgecolor=colour, linewidth=1.5)
        axes.axvline(TRUSTED_KHAT, color=INK, linewidth=1.3, linestyle=(0, (5, 3)))
        axes.annotate(
            f"{(values > TRUSTED_KHAT).mean():.1%} above {TRUSTED_KHAT}",
            (TRUSTED_KHAT, 0.97),
            (5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
        axes.set_xlabel("k-hat", fontsize=9)
        axes.set_ylabel("number of data", fontsize=9)
