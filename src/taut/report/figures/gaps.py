"""The gap in its two parts, as stacked bars."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taut.report.figures.style import BLUE, INK, ORANGE, bare, canvas, precise, styled

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
    # no infinite bars: matplotlib cannot set an axis around them; the totals say what they are
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
    """Start of each part: parts of one sign are stacked, those of the other on the other side of zero."""
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


MOST_BINS = 40
MOST_IMAGES = 8
BEYOND = 2.0
"""Upper ends further right than so many times the range of the lower ends are counted in words."""


@styled
def gap_histogram(
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"] | None,
    *,
    exact: bool,
    images: Float[np.ndarray, "m h w"] | None,
    image_rows: Sequence[int],
    title: str,
) -> Figure:
    """Histogram of the gap over the data, with the worst ones shown.

    Args:
        low: Gap of each datum, or the lower end of its interval, nats.
        high: Upper end of each interval, or ``None``; the infinite ones are counted in words.
        exact: Whether ``low`` is the gap itself.
        images: Images of the largest gaps, largest first, values in [0, 1]; ``None`` for data that are no images.
        image_rows: Their rows in ``low``.
        title: What the picture is of.
    """
    shown = 0 if images is None else min(len(images), MOST_IMAGES)
    figure = canvas(7.2, 5.2 if shown else 4.0)
    grid = figure.add_gridspec(2 if shown else 1, max(shown, 1), height_ratios=[3, 1] if shown else [1])
    axes = figure.add_subplot(grid[0, :])
    _histogram(axes, np.asarray(low, dtype=float), None if exact or high is None else high, exact=exact)
    axes.set_title(fill(title, 58), pad=34)
    worst = [] if images is None else list(zip(images[:shown], image_rows, strict=False))
    for i, (image, row) in enumerate(worst):
        _image(figure.add_subplot(grid[1, i]), image, row, float(low[row]))
    if worst:
        figure.axes[1].set_ylabel("largest gaps", fontsize=9)
    return figure


def _histogram(axes: Axes, low: np.ndarray, high: np.ndarray | None, *, exact: bool) -> None:
    finite = low[np.isfinite(low)]
    upper = np.empty(0) if high is None else high[np.isfinite(high)]
    edges = _edges(finite, upper)
    seen = upper[upper <= edges[-1]]
    axes.hist(seen, edges, color=ORANGE, alpha=0.35)
    axes.hist(finite, edges, color=BLUE, alpha=0.75)
    margin = 0.02 * (edges[-1] - edges[0])
    axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set(xlabel="gap of a datum, nats", ylabel="number of data")
    name = "gap" if exact else "lower end of the gap"
    _said(axes, 17, name, finite, (BLUE, INK, "solid"), {"infinite": len(low) - len(finite)})
    if high is not None:
        lost = {"infinite": len(high) - len(upper), "beyond the edge": len(upper) - len(seen)}
        _said(axes, 4, "upper end of the gap", upper, (ORANGE, ORANGE, "dashed"), lost)


def _edges(low: np.ndarray, upper: np.ndarray) -> list[float]:
    """Bins over the lower ends and the upper ends not far beyond; one nat wide in all where nothing varies."""
    left, right = (float(low.min()), float(low.max())) if len(low) else (0.0, 0.0)
    reach = right + BEYOND * max(right - left, abs(right), 1e-3)
    near = np.concatenate([low, upper[upper <= reach], [left, right]])
    left, right = float(near.min()), float(near.max())
    # relative too, since the rounding error of a gap grows with it
    if right - left < 1e-6 * max(1.0, abs(right)):
        left, right = left - 0.5, right + 0.5
    count = min(MOST_BINS, max(5, 2 * int(len(low) ** 0.5))) | 1
    return np.linspace(left, right, count + 1).tolist()


def _said(
    axes: Axes, height: int, name: str, values: np.ndarray, look: tuple[str, str, str], lost: Mapping[str, int]
) -> None:
    """A coloured line of words between the title and the picture, in place of a legend, and the mean as a line."""
    colour, line_colour, line = look
    words = [f"{name}: none finite"]
    if len(values):
        mean = float(values.mean())
        whose = " of the finite" if lost["infinite"] else ""
        words = [f"{name}: mean{whose} {precise(mean, abs(mean))}"]
        if mean <= axes.get_xlim()[1]:
            words[0] += f" ({line} line)"
            axes.axvline(mean, color=line_colour, linewidth=1.2, linestyle=line)
        words += [f"{count} {why}" for why, count in lost.items() if count]
    said = ", ".join(words)
    axes.annotate(
        said, (0, 1), (0, height), xycoords="axes fraction", textcoords="offset points", color=colour, fontsize=9
    )


def _image(axes: Axes, image: np.ndarray, row: int, gap: float) -> None:
    bare(axes)
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel(f"row {row}\n{precise(gap, abs(gap))}", fontsize=8)
