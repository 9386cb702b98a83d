"""The panels as one picture, drawn from the offline records of runs: a look at the dashboard without an account."""

from collections.abc import Sequence
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from taut.commands.dashboard.panels import Panel
from taut.commands.dashboard.records import Record
from taut.commands.dashboard.runs import Run, chosen
from taut.commands.dashboard.sections import PER_ROW, SECTIONS, Section
from taut.report.figures.style import BLUE, GREY, INK, bare, canvas, styled

WIDTH, HEIGHT, HEADER = 4.6, 2.75, 1.05
"""Inches of a panel of width 1, and of the words above a section."""
LEFT, RIGHT, BELOW, ABOVE = 0.78, 0.2, 0.58, 0.4
"""Inches around a panel's axes."""
LABELLED = 1.45
"""Inches left of axes with the names of runs."""
LETTERS = 240
"""Letters of a line across the picture."""


@styled
def preview(records: Sequence[Record]) -> Figure:
    """All sections as one picture; a panel that no run has logged anything for says so."""
    runs = chosen(records)
    total = sum(HEADER + HEIGHT * len(section.rows) for section in SECTIONS)
    figure = canvas(PER_ROW * WIDTH, total)
    figure.set_layout_engine("none")
    top = total
    for section in SECTIONS:
        _header(figure, section, runs, top / total)
        top -= HEADER
        for row in section.rows:
            top -= HEIGHT
            x = 0.0
            for panel in row:
                _draw(figure, panel, runs, x, top)
                x += panel.width * WIDTH
    return figure


def undrawn(records: Sequence[Record]) -> list[str]:
    """Titles of the panels that no run has logged anything for."""
    return [panel.title for section in SECTIONS for panel in section.panels if not any(map(panel.shows, records))]


def _header(figure: Figure, section: Section, runs: Sequence[Run], top: float) -> None:
    inch = 1 / figure.get_figheight()
    figure.text(0.012, top - 0.22 * inch, section.question, fontsize=17, fontweight="bold", color=BLUE, va="top")
    figure.text(0.012, top - 0.55 * inch, fill(section.reading, LETTERS), fontsize=10, va="top", linespacing=1.25)
    series = {run.series: run.colour for run in runs}
    if len(series) > 1:
        lines = [Line2D([], [], color=colour, linewidth=3) for colour in series.values()]
        place = {"loc": "upper right", "bbox_to_anchor": (0.99, top - 0.15 * inch), "ncols": len(lines)}
        figure.legend(lines, list(series), fontsize=10, handlelength=1.2, columnspacing=1.4, **place)


def _draw(figure: Figure, panel: Panel, runs: Sequence[Run], x: float, y: float) -> None:
    left = LABELLED if panel.names_runs else LEFT
    wide, high = figure.get_figwidth(), figure.get_figheight()
    size = (panel.width * WIDTH - left - RIGHT) / wide, (HEIGHT - BELOW - ABOVE) / high
    axes = figure.add_axes(((x + left) / wide, (y + BELOW) / high, *size), label=panel.title)
    place = (x + 0.2) / wide, (y + HEIGHT - ABOVE + 0.12) / high
    figure.text(*place, panel.title, fontsize=11, fontweight="bold", color=INK)
    shown = [run for run in runs if panel.shows(run.record)]
    if not shown:
        bare(axes)
        axes.text(0.5, 0.5, "no run has logged this", ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    panel.draw(axes, shown)
    if len(shown) < len(runs):
        axes.xaxis.label.set_text(f"{axes.get_xlabel()} · {len(shown)} of {len(runs)} runs")
