"""The gap in its two parts, as stacked bars."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taut.figures.labels import precise
from taut.figures.style import BLUE, INK, ORANGE, canvas, styled

PARTS = (("amortisation", BLUE, 0.19), ("approximation", ORANGE, -0.19))
"""Name, colour and height of the error whisker within the bar."""
LEGIBLE = 0.09
"""A part narrower than this share of the axis does not carry its number."""


@styled
def stacked_gaps(rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """One bar for each run and split: approximation gap (the family's fault) and amortisation gap (the encoder's).

    The split is that of Cremer, Li & Duvenaud (2018). A negative part, which noise or a log p(x) that is too low
    makes, is drawn to the left of zero.

    Args:
        rows: ``label``, ``approximation``, ``amortisation`` (nats), their ``_error`` (nats, or ``None``) and
            ``sign``: of the total, empty where log p(x) is known, ``≥`` where a lower bound of it makes the first
            part one too, ``≈`` where noise makes its bounds cross.
        title: What the picture is of.
    """
    figure = canvas(7.2, 1.7 + 0.45 * len(rows))
    axes = figure.add_subplot()
    heights = np.arange(len(rows))[::-1]
    values = np.array([[row[part] for part, *_ in PARTS] for row in rows], dtype=float)
    errors = np.array([[row[f"{part}_error"] or 0.0 for part, *_ in PARTS] for row in rows], dtype=float)
    drawn, errors = np.nan_to_num(values, posinf=0, neginf=0), np.nan_to_num(errors, posinf=0, neginf=0)
    starts = _starts(drawn)
    ends = starts + drawn
    _limits(axes, ends - errors, ends + errors)
    scale = float(np.abs(drawn.sum(1)).max())
    for i, (part, colour, shift) in enumerate(PARTS):
        axes.barh(heights, drawn[:, i], 0.62, starts[:, i], color=colour, label=f"{part} gap")
        _whiskers(axes, ends[:, i], heights + shift, errors[:, i])
        _numbers(axes, starts[:, i] + drawn[:, i] / 2, heights, drawn[:, i], scale)
    reach = np.maximum((ends + errors).max(1), 0)
    _totals(axes, reach, heights, values.sum(1), [str(row["sign"]) for row in rows])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(heights, [fill(str(row["label"]), 34) for row in rows])
    axes.set(xlabel="nats per datum (whiskers: one standard error)", ylim=(-0.6, len(rows) - 0.4))
    figure.suptitle(fill(title, 58), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    axes.grid(visible=False, axis="y")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _starts(values: np.ndarray) -> np.ndarray:
    """Where each part begins: parts of one sign are stacked, those of the other on the other side of zero."""
    first, second = values.T
    return np.stack([np.zeros_like(first), np.where(first * second > 0, first, 0.0)], 1)


def _limits(axes: Axes, left: np.ndarray, right: np.ndarray) -> None:
    """Room for a total to the right of each bar; a nat where all is zero."""
    bottom, top = min(0.0, float(left.min())), max(0.0, float(right.max()))
    width = top - bottom
    if width < 1e-6:
        bottom, top, width = -0.05, 1.0, 0.0
    axes.set_xlim(bottom - 0.03 * width, top + 0.2 * width)


def _whiskers(axes: Axes, ends: np.ndarray, heights: np.ndarray, errors: np.ndarray) -> None:
    some = errors > 0
    axes.errorbar(ends[some], heights[some], xerr=errors[some], fmt="none", ecolor=INK, elinewidth=1, capsize=2)


def _numbers(axes: Axes, middles: np.ndarray, heights: np.ndarray, values: np.ndarray, scale: float) -> None:
    left, right = axes.get_xlim()
    for middle, height, value in zip(middles, heights, values, strict=True):
        if abs(value) > LEGIBLE * (right - left):
            words = precise(value, scale)
            axes.annotate(words, (middle, height), ha="center", va="center", color="white", fontsize=8.5)


def _totals(axes: Axes, reach: np.ndarray, heights: np.ndarray, totals: np.ndarray, signs: Sequence[str]) -> None:
    scale = float(np.abs(np.nan_to_num(totals, posinf=0, neginf=0)).max())
    for end, height, total, sign in zip(reach, heights, totals, signs, strict=True):
        words = f"{sign if np.isfinite(total) else ''} {precise(total, scale)}".strip()
        axes.annotate(words, (end, height), (6, 0), textcoords="offset points", va="center")
