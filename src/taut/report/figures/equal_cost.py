"""Naive Monte Carlo against importance sampling at equal cost."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from taut.report.figures.bound import k_axis
from taut.report.figures.style import GREY, HALO, OKABE_ITO, canvas, precise, spread, styled

WORDS = {"naive": "z from the prior", "uniform": "z uniform", "importance": "z from q"}
MINUS_INFINITY = "✕ \u2212∞: only zero weights\nfor at least one x"
CROSSES = 2.5
"""Estimates of minus infinity are drawn so many times further away than the furthest point."""
DECADES = 4
"""Most powers of ten on the axis: what is closer to the best value than the lowest of them is drawn at the edge."""


@styled
def equal_cost(
    ks: Int[np.ndarray, " n"], curves: Mapping[str, Mapping[str, Any]], *, exact: float | None, title: str
) -> Figure:
    """The log of each estimate against the number of samples it takes: what will not work in practice, as a picture.

    The axis is the distance to the best value, logarithmic because the naive curves are often hundreds of nats away.
    A triangle at the upper edge is a point at the best value or above it; a cross at the lower edge is an estimate of
    minus infinity, all of whose weights are zero. No band is drawn for the error over the data: it moves all curves
    alike and says nothing about their distances.

    Args:
        ks: Numbers of samples of z.
        curves: By estimator: ``mean`` over the data and its standard ``error``, both ``[n]``, nats.
        exact: Mean of log p(x), nats, if known; otherwise the best point of any curve stands in for it.
        title: What the picture is of.
    """
    figure = canvas(7.2, 4.4)
    axes = figure.add_subplot()
    means = {name: np.asarray(curve["mean"], dtype=float) for name, curve in curves.items()}
    best = _best(means) if exact is None else exact
    floor = _floor(axes, [best - mean for mean in means.values()])
    ends = [_curve(axes, ks, best - mean, floor, i) for i, mean in enumerate(means.values())]
    what, top = ("the best of these",) * 2 if exact is None else ("log p(x)", "at or above log p(x)")
    words = [
        _said(name, one) + (f"\n▲ {top}" if y <= floor else "")
        for (name, one), (_, y) in zip(curves.items(), ends, strict=True)
    ]
    _labels(axes, ends, words)
    k_axis(axes, ks)
    axes.set(xlabel="samples of z per datum, the same for all", ylabel=f"nats below {what}, {precise(best, 1)}")
    axes.set_title(fill(title, 58))
    return figure


def _best(means: Mapping[str, Float[np.ndarray, " n"]]) -> float:
    finite = np.concatenate([mean[np.isfinite(mean)] for mean in means.values()])
    return float(finite.max()) if len(finite) else 0.0


def _floor(axes: Axes, distances: list[np.ndarray]) -> float:
    """Sets the logarithmic axis, the best value on top; returns the distance of its upper edge."""
    every = np.concatenate(distances)
    seen = every[np.isfinite(every) & (every > 0)]
    far = float(seen.max()) if len(seen) else 1.0
    near = max(float(seen.min()), far * 10**-DECADES) if len(seen) else 0.1
    axes.set_yscale("log")
    axes.set_ylim(far * CROSSES * 1.4, near / 2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if far < 100 * near else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return near / 2


def _curve(axes: Axes, ks: np.ndarray, below: np.ndarray, floor: float, index: int) -> tuple[float, float]:
    """Draws one estimator; returns where its label points to."""
    colour = OKABE_ITO[index % len(OKABE_ITO)]
    seen = np.isfinite(below)
    top = seen & (below <= floor)
    height = np.maximum(below[seen], floor)
    axes.plot(ks[seen], height, color=colour, marker="o", markersize=4, clip_on=False)
    axes.plot(ks[top], np.full(int(top.sum()), floor), "^", color=colour, markersize=8, clip_on=False)
    lost = ks[below == np.inf]
    bottom = axes.get_ylim()[0] / 1.4
    axes.plot(lost, np.full(len(lost), bottom), "X", color=colour, markersize=max(11 - 3 * index, 4))
    return (float(ks[seen][-1]), float(height[-1])) if seen.any() else (float(ks[-1]), bottom)


def _said(name: str, one: Mapping[str, Any]) -> str:
    mean, error = (np.asarray(one[key], dtype=float) for key in ("mean", "error"))
    what = WORDS.get(name, name)
    if not np.isfinite(mean[-1]):
        return f"{what}\n{MINUS_INFINITY}"
    value = precise(mean[-1], 1) + (f" ± {precise(error[-1], 1)}" if np.isfinite(error[-1]) else "")
    lost = int((mean == -np.inf).sum())
    return f"{what}\n{value}" + (f"\n✕ \u2212∞ at {lost} of {len(mean)}" if lost else "")


def _labels(axes: Axes, ends: list[tuple[float, float]], words: list[str]) -> None:
    # in decades, downwards: the axis is logarithmic and upside down
    bottom, top = (-np.log10(limit) for limit in axes.get_ylim())
    heights = spread((-np.log10(y) for _, y in ends), 0.17 * (top - bottom), bottom, top - 0.06 * (top - bottom))
    for i, ((k, y), height, said) in enumerate(zip(ends, heights, words, strict=True)):
        axes.annotate(
            said,
            (k, y),
            (1.03, 10**-height),
            textcoords=("axes fraction", "data"),
            va="center",
            color=OKABE_ITO[i % len(OKABE_ITO)],
            fontsize=9,
            path_effects=HALO,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
