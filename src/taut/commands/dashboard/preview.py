"""The panels as one picture, drawn from the offline records of runs: a look at the dashboard without an account."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from taut.commands.dashboard import panels
from taut.commands.dashboard.panels import SECTIONS, SERIES, TRUSTED_KHAT, Panel, Section
from taut.commands.dashboard.records import Record, labels
from taut.config.program import typed
from taut.report.figures.bound import k_axis
from taut.report.figures.style import BLUE, GREY, HALO, INK, OKABE_ITO, ORANGE, bare, canvas, colours, precise, styled

PER_ROW, WIDTH, HEIGHT, HEADER = 4, 4.6, 2.75, 1.05
"""Panels in a row; inches of a panel, and of the words above a section."""
LEFT, RIGHT, BELOW, ABOVE = 0.78, 0.2, 0.58, 0.4
"""Inches around a panel's axes."""
LABELLED = 1.45
"""Inches left of axes with the names of runs."""
MOST = 24
"""Runs that have room."""
PALE = 0.5
"""Opacity of the second of two numbers."""
LETTERS = 215
"""Letters of a line across the picture."""


@dataclass(frozen=True)
class Runs:
    """The runs that are drawn.

    Args:
        records: What they have logged, by model, prior and q, then by K and seed.
        label: The short name of each, by its name.
        colour: The colour of each, one for all that differ in K and seed alone.
        series: Names of the series and their colours.
    """

    records: Sequence[Record]
    label: Mapping[str, str]
    colour: Sequence[Any]
    series: Mapping[str, Any]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Runs":
        """The first runs that have room, in their order."""
        kept = sorted(records, key=_order)[:MOST]
        names = [_series(record) for record in kept]
        known = dict(zip(dict.fromkeys(names), colours(len(set(names))), strict=True))
        short = labels(list(known))
        label = labels([record.name for record in kept])
        series = {short[name] or name: colour for name, colour in known.items()}
        return cls(kept, label, [known[name] for name in names], series)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table of all runs, in the order of these, with their short names and colours."""
        return [
            {**row, "label": self.label[record.name], "colour": colour}
            for record, colour in zip(self.records, self.colour, strict=True)
            for row in record.tables.get(table, ())
        ]


@styled
def preview(records: Sequence[Record]) -> Figure:
    """All sections as one picture; a panel that no run has logged anything for says so."""
    runs = Runs.of(records)
    rows = {section.question: _rows_of(section) for section in SECTIONS}
    total = sum(HEADER + HEIGHT * len(each) for each in rows.values())
    figure = canvas(PER_ROW * WIDTH, total)
    figure.set_layout_engine("none")
    top = total
    for section in SECTIONS:
        _header(figure, section, top / total)
        top -= HEADER
        for row in rows[section.question]:
            top -= HEIGHT
            for place, panel in enumerate(row):
                width = WIDTH * (PER_ROW if isinstance(panel, WIDE) else 1)
                _draw(figure, panel, runs, (place * WIDTH, top, width))
    return figure


def undrawn(records: Sequence[Record]) -> list[str]:
    """Titles of the panels that no run has logged everything for."""
    return [panel.title for section in SECTIONS for panel in section.panels if not _is_drawn(panel, records)]


def _is_drawn(panel: Panel, records: Sequence[Record]) -> bool:
    return any(all(record.holds(key) for key in panel.keys) for record in records)


def _rows_of(section: Section) -> list[list[Panel]]:
    rows: list[list[Panel]] = []
    for panel in section.panels:
        full = not rows or len(rows[-1]) == PER_ROW or isinstance(panel, WIDE) or isinstance(rows[-1][0], WIDE)
        rows = [*rows, [panel]] if full else [*rows[:-1], [*rows[-1], panel]]
    return rows


def _header(figure: Figure, section: Section, top: float) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(0.012, top - 0.22 * inch, section.question, fontsize=17, fontweight="bold", color=BLUE, va="top")
    words = fill(section.reading.format(report=typed("report")), LETTERS)
    figure.text(0.012, top - 0.55 * inch, words, fontsize=10, color=INK, va="top", linespacing=1.25)


def _draw(figure: Figure, panel: Panel, runs: Runs, box: tuple[float, float, float]) -> None:
    x, y, width = box
    left = LABELLED if _has_names(panel) else LEFT
    wide, high = figure.get_figwidth(), figure.get_figheight()
    place = ((x + left) / wide, (y + BELOW) / high, (width - left - RIGHT) / wide, (HEIGHT - BELOW - ABOVE) / high)
    axes = figure.add_axes(place, label=panel.title)
    figure.text((x + 0.2) / wide, (y + HEIGHT - ABOVE + 0.12) / high, panel.title, fontsize=11, fontweight="bold")
    if _is_drawn(panel, runs.records):
        DRAWN[type(panel)](axes, panel, runs)
    else:
        bare(axes)
        axes.text(0.5, 0.5, "no run has logged this", ha="center", va="center", color=GREY, transform=axes.transAxes)


def _has_names(panel: Panel) -> bool:
    return isinstance(panel, panels.Bars) or (isinstance(panel, panels.Chart) and panel.kind in ("interval", "stacked"))


def _order(record: Record) -> tuple[Any, ...]:
    return _series(record), _number(record.value("config:k")), _number(record.value("config:seed"))


def _series(record: Record) -> str:
    return " ".join(str(record.value(f"config:choices.{name}")) for name in SERIES)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _points(axes: Axes, panel: panels.Points, runs: Runs) -> None:
    x, y = (np.array([_number(run.value(key)) for run in runs.records]) for key in (panel.x, panel.y))
    for colour in dict.fromkeys(runs.colour):
        own = [one == colour for one in runs.colour]
        axes.scatter(x[own], y[own], s=30, color=colour, alpha=0.8, edgecolors="white", linewidths=0.6)
    if panel.log_x:
        k_axis(axes, np.unique(x[np.isfinite(x)]).astype(int))
    else:
        ends = [np.nanmin([x, y]), np.nanmax([x, y])]
        axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=(0, (5, 3)), zorder=0)
        axes.set_xlabel(panel.x.rpartition(":")[2], fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylabel(panel.y.rpartition(":")[2], fontsize=9)
    _legend(axes, runs)


def _lines(axes: Axes, panel: panels.Lines, runs: Runs) -> None:
    for number, name in enumerate(panel.names):
        for run, colour in zip(runs.records, runs.colour, strict=True):
            x, y = run.series(panel.x, name)
            style = ("-", (0, (4, 2)))[number % 2]
            axes.plot(x, y, color=colour, linestyle=style, marker="o", markersize=3, linewidth=1.3, alpha=0.8)
    if panel.log_x:
        k_axis(axes, np.unique([x for run in runs.records for x in run.series(panel.x, panel.names[0])[0]]).astype(int))
    else:
        axes.set_xlabel(panel.x)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    said = "" if len(panel.names) == 1 else f"{panel.names[0]} (solid), {panel.names[1]} (dashed)\n"
    axes.set_ylabel(f"{said}{panel.unit}", fontsize=9)
    _legend(axes, runs)


def _bars(axes: Axes, panel: panels.Bars, runs: Runs) -> None:
    values = np.array([[_number(run.value(f"summary:{name}")) for name in panel.names] for run in runs.records])
    # log densities may lie anywhere, and a bar from 0 would hide what they differ by
    (_dumbbells if np.nanmin(values) < 0 else _bars_from_zero)(axes, values, runs)
    _names(axes, [runs.label[run.name] for run in runs.records])
    shades = zip(panel.names, ("full", "pale"), strict=False)
    said = ", ".join(f"{name} ({shade})" for name, shade in shades) + "; " if len(panel.names) > 1 else ""
    axes.set_xlabel(f"{said}{panel.unit}", fontsize=8.5)


def _bars_from_zero(axes: Axes, values: np.ndarray, runs: Runs) -> None:
    count = values.shape[1]
    height = 0.8 / count
    for number in range(count):
        tints = [(*colour, PALE if number else 1.0) for colour in runs.colour]
        places = np.arange(len(values))[::-1] + 0.4 - (number + 0.5) * height
        axes.barh(places, values[:, number], height, color=tints)


def _dumbbells(axes: Axes, values: np.ndarray, runs: Runs) -> None:
    for place, row, colour in zip(range(len(values))[::-1], values, runs.colour, strict=True):
        axes.plot([np.nanmin(row), np.nanmax(row)], [place, place], color=colour, linewidth=1.4, alpha=PALE)
        for number, value in enumerate(row):
            axes.plot(value, place, marker="o", markersize=5, color=colour, alpha=PALE if number else 1.0)


def _interval(axes: Axes, panel: panels.Chart, runs: Runs) -> None:
    rows, fields = runs.rows(panel.table), panel.fields
    for place, row in zip(range(len(rows))[::-1], rows, strict=True):
        low, high = (_number(row[fields[end]]) for end in ("low", "high"))
        if np.isfinite(high):
            axes.barh(place, high - low, 0.5, low, color=row["colour"], alpha=0.45)
        else:
            axes.plot(low, place, marker=">", color=row["colour"])
        for end, value in (("low", low), ("high", high)):
            axes.errorbar(value, place, xerr=_number(row[fields[f"{end}_error"]]), color=row["colour"], capsize=3)
    _names(axes, [row["label"] for row in rows])
    axes.set_xlabel(panel.unit, fontsize=9)


def _stacked(axes: Axes, panel: panels.Chart, runs: Runs) -> None:
    rows, fields = runs.rows(panel.table), panel.fields
    names = list(dict.fromkeys(row["label"] for row in rows))
    parts = dict.fromkeys(row[fields["part"]] for row in rows)
    ends = {1: np.zeros(len(names)), -1: np.zeros(len(names))}
    for part, colour in zip(parts, (ORANGE, BLUE, *OKABE_ITO[2:]), strict=False):
        known = {row["label"]: _number(row[fields["value"]]) for row in rows if row[fields["part"]] == part}
        values = np.array([known.get(name, 0.0) for name in names])
        starts = np.where(values < 0, ends[-1], ends[1])
        axes.barh(np.arange(len(names))[::-1], values, 0.65, starts, color=colour, label=part)
        ends = {1: ends[1] + np.maximum(values, 0), -1: ends[-1] + np.minimum(values, 0)}
    _names(axes, names)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(panel.unit, fontsize=9)
    axes.legend(fontsize=8, loc="lower right", framealpha=0.85, frameon=True, edgecolor="none")


def _gap_against_k(axes: Axes, panel: panels.Chart, runs: Runs) -> None:
    """Means over the seeds of one K; a line joins those of one colour, which differ in K alone."""
    fields, by_colour = panel.fields, {}
    for row in runs.rows(panel.table):
        by_colour.setdefault(row["colour"], {}).setdefault(row[fields["k"]], []).append(row[fields["gap"]])
    for colour, gaps in by_colour.items():
        ks = sorted(gaps)
        means = [np.mean(gaps[k]) for k in ks]
        errors = [np.std(gaps[k], ddof=1) / np.sqrt(len(gaps[k])) if len(gaps[k]) > 1 else 0.0 for k in ks]
        axes.errorbar(ks, means, yerr=errors, color=colour, marker="o", markersize=4, capsize=3, elinewidth=1.2)
        axes.scatter(
            [k for k in ks for _ in gaps[k]], [gap for k in ks for gap in gaps[k]], s=14, color=colour, alpha=0.5
        )
    k_axis(axes, np.array(sorted({k for gaps in by_colour.values() for k in gaps})))
    axes.set_xlabel("K of the training bound")
    axes.set_ylabel(f"gap, {panel.unit}", fontsize=9)
    _legend(axes, runs)


def _khat_histogram(axes: Axes, panel: panels.Chart, runs: Runs) -> None:
    rows, column = runs.rows(panel.table), panel.fields["khat"]
    values = np.array([row[column] for row in rows])
    edges = np.arange(np.floor(10 * values.min()), np.ceil(10 * max(values.max(), TRUSTED_KHAT + 0.1)) + 1) / 10
    for label, colour in runs.series.items():
        own = [row[column] for row in rows if row["colour"] == colour]
        axes.hist(own, edges, color=colour, alpha=0.5, label=label)
    axes.axvline(TRUSTED_KHAT, color=INK, linewidth=1.3, linestyle=(0, (5, 3)))
    above = (values > TRUSTED_KHAT).mean()
    axes.annotate(
        f"{above:.1%} above {TRUSTED_KHAT}",
        (TRUSTED_KHAT, 0.97),
        (5, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=9,
    )
    axes.set(xlabel=panel.unit, ylabel="number of data")
    _legend(axes, runs)


def _chart(axes: Axes, panel: panels.Chart, runs: Runs) -> None:
    CHARTS[panel.kind](axes, panel, runs)


def _picture(axes: Axes, panel: panels.Picture, runs: Runs) -> None:
    run = next(run for run in reversed(runs.records) if panel.name in run.pictures)
    bare(axes)
    axes.imshow(imread(run.pictures[panel.name]), interpolation="antialiased")
    axes.set_xlabel(runs.label[run.name], fontsize=9, color=GREY)


def _parallel(axes: Axes, panel: panels.Parallel, runs: Runs) -> None:
    columns = [
        _axis([run.value(key) for run in runs.records], name in panel.logarithmic)
        for name, key in panel.columns.items()
    ]
    places = range(len(columns))
    for number, colour in enumerate(runs.colour):
        axes.plot(places, [heights[number] for heights, _ in columns], color=colour, linewidth=1.6, alpha=0.8)
    for place, (_, ticks) in enumerate(columns):
        axes.axvline(place, color=GREY, linewidth=0.9)
        for height, word in ticks:
            look = {"textcoords": "offset points", "va": "center", "fontsize": 9, "path_effects": HALO}
            axes.annotate(word, (place, height), (5, 0), **look)
    axes.set_xticks(places, list(panel.columns))
    axes.set(yticks=[], xlim=(-0.1, len(columns) - 0.5), ylim=(-0.1, 1.1))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


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


def _differences(axes: Axes, panel: Panel, runs: Runs) -> None:
    """A table of the settings that differ, and of some scores."""
    bare(axes)
    flat = [dict(_flat(run.config)) for run in runs.records]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if len({one.get(key) for one in flat}) > 1]
    # what only says a choice again, such as the class behind model=, is left out
    keys = [key for key in keys if "_target_" not in key and not key.startswith(("sweep", "model.", "objective."))][:8]
    scores = {"test/elbo": "ELBO", "test/log_px": "log p(x)", "test/gap": "gap", "test/warnings": "warnings"}
    cells = [
        [one.get(key, "") for key in keys] + [_said(run.value(f"summary:{name}")) for name in scores]
        for one, run in zip(flat, runs.records, strict=True)
    ]
    rows = len(cells) + 1
    height = min(1.0, 0.085 * rows)
    box = Bbox.from_bounds(0.0, 1.0 - height, 1.0, height)
    table = axes.table(cells, colLabels=[*keys, *scores.values()], bbox=box, cellLoc="right", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(min(9.0, 150 / rows))
    for cell in table.get_celld().values():
        cell.set_edgecolor("#E5E7EB")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}", str(value)


def _said(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names))[::-1], [name[:24] for name in names], fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")


def _legend(axes: Axes, runs: Runs) -> None:
    if len(runs.series) > 1:
        for label, colour in runs.series.items():
            axes.plot([], [], color=colour, label=label)
        handles, named = axes.get_legend_handles_labels()
        axes.legend(handles[-len(runs.series) :], named[-len(runs.series) :], fontsize=8, loc="best")


WIDE = (panels.Parallel, panels.Differences)
CHARTS: Mapping[str, Callable[[Axes, panels.Chart, Runs], None]] = {
    "interval": _interval,
    "stacked": _stacked,
    "gap_against_k": _gap_against_k,
    "khat_histogram": _khat_histogram,
}
DRAWN: Mapping[type[Panel], Callable[[Axes, Any, Runs], None]] = {
    panels.Points: _points,
    panels.Lines: _lines,
    panels.Bars: _bars,
    panels.Chart: _chart,
    panels.Picture: _picture,
    panels.Parallel: _parallel,
    panels.Differences: _differences,
}
