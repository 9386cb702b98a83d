"""The figures of a search: its history, the importance of its parameters, and its score along each of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taut.report.figures.style import BLUE, GREY, INK, ORANGE, PALE, canvas, save, styled
from taut.report.read.search import SearchResult, Trial

PER_ROW = 3
LONGEST = 16
"""Letters of a choice under an axis."""
Points = Sequence[tuple[int, Trial, float]]


def save_figures(search: SearchResult, folder: Path) -> list[Path]:
    """Draw what there is to draw, for each score, into a folder."""
    return [save(figure, folder / f"{name}.png") for name, figure in figures(search)]


def figures(search: SearchResult) -> list[tuple[str, Figure]]:
    """The figures of a search with their names; none before its first trial has a score."""
    drawn: list[tuple[str, Figure]] = []
    for index in range(len(search.labels)) if search.values else ():
        suffix = f"_{index + 1}" if len(search.labels) > 1 else ""
        drawn.append((f"search_history{suffix}", history(search, index)))
        if search.importance[index]:
            drawn.append((f"search_importance{suffix}", importance(search, index)))
        drawn.append((f"search_slices{suffix}", slices(search, index)))
    return drawn


@styled
def history(search: SearchResult, index: int = 0) -> Figure:
    """The score of every trial in the order of the trials, and the best so far; trials without one at the foot."""
    figure = canvas()
    axes = figure.add_subplot()
    points = _points(search, index)
    number, score = np.array([n for n, *_ in points]), np.array([value for *_, value in points])
    best = np.maximum.accumulate(score)
    axes.step([*number, len(search.trials) - 1], [*best, best[-1]], where="post", color=ORANGE, label="the best so far")
    axes.scatter(number, score, s=26, color=BLUE, label="finished", zorder=3)
    _fit(axes, score)
    for state, marker in (("pruned", "|"), ("failed", "x")):
        at = [n for n, trial in enumerate(search.trials) if trial.state == state]
        if at:
            low = axes.get_ylim()[0]
            axes.scatter(at, [low] * len(at), marker=marker, s=40, color=GREY, label=state, clip_on=False, zorder=3)
    axes.set(xlabel="trial", ylabel=_label(search, index), title="The search, trial by trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="best")
    return figure


@styled
def importance(search: SearchResult, index: int = 0) -> Figure:
    """The share of the variance of the score that each parameter explains, the largest on top."""
    shares = sorted(search.importance[index].items(), key=lambda share: share[1])
    figure = canvas(height=1.4 + 0.4 * len(shares))
    axes = figure.add_subplot()
    bars = axes.barh([key for key, _ in shares], [share for _, share in shares], color=BLUE, height=0.62)
    axes.bar_label(bars, [f"{share:.0%}" for _, share in shares], padding=4, color=INK)
    axes.set(
        xlim=(0, 1.1), xticks=[0, 0.5, 1], title="Which parameter matters", xlabel="share of the variance (fANOVA)"
    )
    axes.grid(visible=False, axis="y")
    return figure


@styled
def slices(search: SearchResult, index: int = 0) -> Figure:
    """The score along each parameter; the colour is the number of the trial, the ring the best."""
    keys = search.axes
    rows = -(-len(keys) // PER_ROW)
    figure = canvas(1.4 + 2.9 * min(len(keys), PER_ROW), 0.7 + 2.8 * rows)
    grid = figure.subplots(rows, min(len(keys), PER_ROW), sharey=True, squeeze=False)
    points = _points(search, index)
    for axes, key in zip(grid.flat, keys, strict=False):
        _slice(axes, search, points, key)
    for axes in grid.flat[len(keys) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(_label(search, index))
    figure.suptitle("The score along each parameter", x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _slice(axes: Axes, search: SearchResult, points: Points, key: str) -> None:
    choices = list(search.choices.get(key, ()))
    known = [(n, trial, value) for n, trial, value in points if key in trial.params]
    places = [_place(trial.params[key], choices) for _, trial, _ in known]
    scores = [value for *_, value in known]
    axes.scatter(places, scores, c=[n for n, *_ in known], cmap="Blues", vmin=-len(search.trials) / 2, s=24)
    best = [(place, value) for place, (_, trial, value) in zip(places, known, strict=True) if trial.job in search.best]
    axes.scatter(*np.array(best).reshape(-1, 2).T, s=90, facecolors="none", edgecolors=ORANGE, linewidths=1.8)
    axes.set_xlabel(key)
    _fit(axes, np.array(scores))
    if choices:
        axes.set_xlim(-0.5, len(choices) - 0.5)
        axes.set_xticks(range(len(choices)), [choice[:LONGEST] for choice in choices])
        axes.tick_params("x", labelrotation=30 if sum(map(len, choices)) > 24 else 0)
    elif key in search.ranges:
        _number_axis(axes, *search.ranges[key], logarithmic=key in search.logarithmic)
    axes.grid(color=PALE)


def _number_axis(axes: Axes, low: float, high: float, *, logarithmic: bool) -> None:
    """The whole range that was searched, with its ends and its middle written out."""
    if logarithmic:
        axes.set_xscale("log")
    ticks = np.geomspace(low, high, 3) if logarithmic else np.linspace(low, high, 3)
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    # a logarithmic axis would write numbers of its own between them
    axes.minorticks_off()
    margin = (high / low) ** 0.06 if logarithmic else 0.06 * (high - low)
    axes.set_xlim(*((low / margin, high * margin) if logarithmic else (low - margin, high + margin)))


def _place(value: float | str, choices: Sequence[str]) -> float:
    return float(choices.index(str(value))) if choices else float(value)


def _points(search: SearchResult, index: int) -> Points:
    return [(n, trial, trial.values[index]) for n, trial in enumerate(search.trials) if trial.values is not None]


def _label(search: SearchResult, index: int) -> str:
    return f"{search.labels[index].replace(chr(10), ', ')}, nats"


def _fit(axes: Axes, score: np.ndarray) -> None:
    """Keep the few worst trials from flattening the others: the view starts at the 10% quantile."""
    low, high = np.quantile(score, 0.1) if len(score) > 5 else score.min(), score.max()
    margin = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - 1.5 * margin, high + margin)
