"""The bracket: the bound against K, and what encloses log p(x) from both sides."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taut.report.figures.bound import k_axis
from taut.report.figures.style import BLUE, GREEN, GREY, HALO, INK, ORANGE, canvas, per_datum, precise, spread, styled
from taut.report.numbers import digits_for, interval

LOOK = {
    "exact": (INK, "-"),
    "lower": (BLUE, (0, (5, 3))),
    "upper": (ORANGE, (0, (5, 3))),
    "estimate": (GREY, ":"),
}
FAR = 1.0
"""A level further away than so many times the gap is told in words rather than drawn."""

FLAT = 0.05
"""Nats: a gap below this does not set the scale of the picture, or rounding errors would fill it."""

Level = Mapping[str, Any]


class Enclosed(NamedTuple):
    """Enclosure of log p(x): lower bound, upper bound (``inf`` without a finite one), whether both are it."""

    low: float
    high: float
    exact: bool


@styled
def bracket(
    ks: Int[np.ndarray, " n"],
    curve: Float[np.ndarray, " n"],
    curve_errors: Float[np.ndarray, " n"] | None = None,
    *,
    elbo: float,
    levels: Sequence[Level],
    ends: tuple[float, float],
    title: str,
    error: float | None = None,
) -> Figure:
    r"""$L_K$ against $K$, every other statement about $\log p(x)$ as a level, and the band it lies in shaded.

    The band runs between the ends of the gap, whose choice rests on more than their values
    (:func:`taut.evidence.gap.interval`), and is open above where there is no upper one. The axis is set by the curve;
    levels far from it are told at the edge.

    Args:
        ks: Numbers of importance samples, ascending from 1.
        curve: Mean of $L_K$ over the data, nats.
        curve_errors: Error bar of each point, nats, or ``None``.
        elbo: Mean ELBO, nats.
        levels: ``label``, ``value`` (nats; ``None`` or infinite where there is no finite one), ``kind`` (``exact``,
            ``lower``, ``upper`` or ``estimate``) and possibly ``error`` (nats) of each estimator.
        ends: The lower bound and the upper one (``inf`` without one) between which the band runs, nats.
        title: What the picture is of.
        error: Standard error over the data, nats, said in words: it moves the curve and every level alike.
    """
    figure = canvas(7.2, 4.6)
    axes = figure.add_subplot()
    known = [{**level, "value": _number(level)} for level in levels]
    band = Enclosed(*ends, any(level["kind"] == "exact" for level in known))
    near, above, below = _sorted(known, elbo, band.low)
    span = _limits(axes, [elbo, *curve, *(level["value"] for level in near)], len(above), len(below))
    axes.errorbar(ks, curve, yerr=curve_errors, color=BLUE, marker="o", markersize=4, capsize=3, elinewidth=1.2)
    _band(axes, band, span)
    _levels(axes, [{"label": "importance", "value": float(curve[-1]), "kind": "lower"}, *near], span)
    _edge(axes, above, "↑", 0.985, "top")
    _edge(axes, below, "↓", 0.015, "bottom")
    _gap(axes, elbo, band, span, len(below))
    k_axis(axes, ks)
    axes.set_title(fill(title, 58))
    axes.set_ylabel(per_datum(error))
    return figure


def _number(level: Level) -> float:
    value = level["value"]
    # an unknown bound bounds nothing: infinite on its own side
    if value is None or np.isnan(value):
        return inf if level["kind"] == "upper" else -inf
    return float(value)


def _sorted(levels: Sequence[Level], elbo: float, low: float) -> tuple[list[Level], list[Level], list[Level]]:
    """The levels that are drawn, those too far above, those too far below."""
    reach = FAR * max(low - elbo, FLAT)
    near = [level for level in levels if isfinite(level["value"]) and elbo - reach <= level["value"] <= low + reach]
    far = [level for level in levels if level not in near]
    return near, [level for level in far if level["value"] > low], [level for level in far if level["value"] <= low]


def _limits(axes: Axes, values: Sequence[float], above: int, below: int) -> float:
    """Room for words, and for a line of them per far level; returns the height of what is drawn."""
    finite = [value for value in values if isfinite(value)] or [0.0]
    bottom, top = min(finite), max(finite)
    # matplotlib warns of equal limits, and a picture of rounding errors would mislead
    span = top - bottom if top - bottom > FLAT / 50 else 2 * FLAT
    axes.set_ylim(bottom - (0.3 + 0.08 * below) * span, top + (0.2 + 0.08 * above) * span)
    return top - bottom


def _band(axes: Axes, band: Enclosed, span: float) -> None:
    if band.exact:
        return
    bottom, top = axes.get_ylim()
    # a band without an upper end is cut at the edge, since matplotlib draws nothing up to infinity
    low, high = sorted(min(max(end, bottom), top) for end in (band.low, band.high))
    axes.axhspan(low, high, color=GREEN, alpha=0.14, linewidth=0)
    words = r"$\log p(x)$ is in here" if band.high >= band.low else "the bounds cross here, by noise"
    thin, unbounded = high - low <= 0.15 * span, band.high > top
    axes.annotate(
        f"{words}, open above" if unbounded else words,
        (0.015, high if thin else low if unbounded else (low + high) / 2),
        (0, 4 if thin or unbounded else 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom" if thin or unbounded else "center",
        color=GREEN,
        path_effects=HALO,
    )


def _levels(axes: Axes, levels: Sequence[Level], span: float) -> None:
    """Name, value and kind of every level at the right edge, apart from one another."""
    bottom, top = axes.get_ylim()
    heights = spread((level["value"] for level in levels), 0.068 * (top - bottom), bottom, top)
    for index, (level, height) in enumerate(zip(levels, heights, strict=True)):
        colour, line = LOOK[level["kind"]]
        if index:
            axes.axhline(level["value"], linewidth=1.2, color=colour, linestyle=line)
        axes.annotate(
            _said(level, span / 3),
            (1.0, level["value"]),
            (1.045, height),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def _edge(axes: Axes, far: Sequence[Level], arrow: str, y: float, va: str) -> None:
    """Name the levels outside the picture, in words at the edge on their side."""
    words = "\n".join(f"{arrow} {_said(level, inf)}" for level in far)
    axes.annotate(words, (0.015, y), xycoords="axes fraction", va=va, fontsize=9, color=GREY, path_effects=HALO)


def _gap(axes: Axes, elbo: float, band: Enclosed, span: float, below: int) -> None:
    if isfinite(elbo):
        axes.axhline(elbo, color=BLUE, linewidth=0.8, alpha=0.5)
    low, high = band.low - elbo, band.high - elbo
    upper = high if isfinite(high) else None
    # the words and digits of the terminal, in the signs of a figure
    said = interval(low, upper, exact=band.exact, digits=digits_for(low), unit=" nats")
    words = f"gap {said}".replace(">=", "≥").replace("-", "\u2212") if isfinite(low) else "no finite gap"
    if isfinite(low) and not band.exact and upper is None:
        words += " (no finite upper bound)"
    axes.annotate(
        f"ELBO {precise(elbo, span / 3)}\n{words}",
        (0.985, 0),
        (0, 5 + 13 * below),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=INK,
        path_effects=HALO,
    )


def _said(level: Level, scale: float) -> str:
    kind = "" if level["label"] == level["kind"] else f" ({level['kind']})"
    if not isfinite(level["value"]):
        return f"{level['label']}: no finite value{kind}"
    error = "" if level.get("error") is None else f" ± {precise(level['error'], scale)}"
    return f"{level['label']} {precise(level['value'], scale)}{error}{kind}"
