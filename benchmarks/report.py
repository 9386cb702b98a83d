"""What a benchmark prints and draws: machine and versions, a table in Markdown, a figure in the project's style."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.rounds import Summary
from taut.report.figures.style import BLUE, GREY, INK, ORANGE, canvas, save, styled

PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "jax", "pythae", "pyro-ppl")
OWN = "taut"


def header(threads: int) -> str:
    """Machine, versions and command."""
    found = ", ".join(f"{name} {number}" for name in PACKAGES if (number := _version(name)))
    module = sys.modules["__main__"].__spec__
    command = shlex.join(["python", "-m", module.name if module else "benchmarks", *sys.argv[1:]])
    cores = f"{threads} of {os.cpu_count()} cores"
    return f"`{command}`; {_processor()}, {cores}; Python {platform.python_version()}, {found}\n"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left."""
    lines = [titles, ["---", *["--:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def timings(summaries: Mapping[str, Summary], reference: str, unit: str, extra: Mapping[str, str] | None = None) -> str:
    """Times and ratios of every candidate; ``extra`` is a last column, its title under the empty name."""
    extra = extra or {}
    titles = ["candidate", f"ms/{unit}, median", "least", f"x {reference}", "quartiles", "x its least", "disturbed"]
    rows = []
    for name, one in summaries.items():
        low, high = one.quartiles
        row = [name, f"{1e3 * one.median:.2f}", f"{1e3 * one.least:.2f}", f"{one.ratio:.2f}", f"{low:.2f} - {high:.2f}"]
        row.append(f"{one.least / summaries[reference].least:.2f}")
        rows.append([*row, f"{one.disturbed} of {one.rounds}", *([extra.get(name, "")] if extra else [])])
    return table([*titles, *([extra[""]] if extra else [])], rows)


@styled
def ratios(summaries: Mapping[str, Summary], reference: str, title: str) -> Figure:
    """The ratio of every candidate to the reference, round by round, with median and quartiles."""
    names = [name for name in summaries if name != reference]
    figure = canvas(6.4, 1.2 + 0.34 * len(names))
    axes = figure.add_subplot()
    for row, name in enumerate(names):
        one = summaries[name]
        colour = BLUE if name.startswith(OWN) else ORANGE
        axes.plot(one.ratios, [row] * len(one.ratios), "o", color=colour, alpha=0.25, markersize=4, markeredgewidth=0)
        axes.plot(one.quartiles, [row, row], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(one.ratio, row, "|", color=INK, markersize=11, markeredgewidth=1.8)
        axes.annotate(f"{one.ratio:.2f}", (one.ratio, row), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set(xlabel=f"time, as a multiple of {reference}", title=title)
    return figure


@styled
def curves(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str, title: str) -> Figure:
    """Lines on logarithmic axes: growth."""
    figure = canvas()
    axes = figure.add_subplot()
    for name, (across, up) in series.items():
        axes.plot(across, up, "o-", label=name, color=BLUE if name.startswith(OWN) else None)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y, title=title)
    axes.legend()
    return figure


@styled
def climbs(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], target: float) -> Figure:
    """Validation bounds against the time of training."""
    figure = canvas()
    axes = figure.add_subplot()
    for name, (seconds, bounds) in series.items():
        axes.plot(seconds, bounds, label=name)
    axes.axhline(target, color=GREY, linewidth=1)
    axes.set_ylim(bottom=target - 30)
    axes.set(xlabel="seconds of training", ylabel="validation bound, nats", title=f"Time to {target} nats")
    axes.legend()
    return figure


def keep(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure and say where."""
    print(f"figure: {save(figure, folder / f'{name}.png')}\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
