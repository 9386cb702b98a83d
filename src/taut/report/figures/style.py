"""Numbers and words on a picture: how many decimals, which ticks, and how far apart."""

import io
import os
from collections.abc import Callable, Iterable
from functools import wraps
from math import inf, isfinite, log10
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from taut.files import write_atomically
from taut.report.numbers import digits_for, number


def spread(values: Iterable[float], distance: float, low: float = -inf, high: float = inf) -> list[float]:
    r"""Positions in the order of the values, ``distance`` apart or more, moved as little as can be (least squares).

    Minimises $\sum_i (p_i - v_i)^2$ by isotonic regression of $v_i - i d$ over the sorted values. Inside
    ``[low, high]`` where they fit there; where they do not, they are closer than ``distance``.
    """
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    if n > 1:
        distance = min(distance, (high - low) / (n - 1))
    # stable: equal values keep their order, and the same picture comes out each time
    order, steps = np.argsort(values, kind="stable"), distance * np.arange(n)
    free = values[order] - steps
    level = [max(min(free[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    placed = np.empty(n)
    placed[order] = np.clip(level, low, max(low, high - distance * (n - 1))) + steps
    return placed.tolist()


def legible(ks: Int[np.ndarray, " n"], most: int = 12) -> Int[np.ndarray, " m"]:
    """The numbers of samples that can be written under a logarithmic axis without touching, both ends among them.

    Args:
        ks: All of them, ascending.
        most: How many stand side by side at equal distances.
    """
    apart = log10(ks[-1] / ks[0]) / most
    kept = [ks[-1]]
    for k in ks[-2:0:-1]:
        if min(log10(kept[-1] / k), log10(k / ks[0])) > apart:
            kept.append(k)
    return np.unique([ks[0], *kept])


def precise(value: float, scale: float = 1.0) -> str:
    """Number in the decimals of a table, more where two digits of ``scale`` take them; the minus sign of the axes."""
    return number(value, digits_for(scale)).replace("-", "\u2212") if isfinite(value) else "not finite"


def per_datum(error: float | None, curves: str = "all") -> str:
    """Name of an axis of nats per datum, with the standard error over the data where one is common to all curves.

    Args:
        error: That standard error, nats: it moves all values alike and says nothing about their distances.
        curves: Who shares it.
    """
    unit = "nats per datum"
    if error is None or not isfinite(error):
        return unit
    return f"{unit}\n(± {precise(error, error)} over the data, for {curves} alike)"


BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
HOLE = "#F2C9A5"
INK, GREY, PALE = "#222222", "#6B7280", "#E5E7EB"
OKABE_ITO = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#A39A00", "#7F7F7F")

HALO = [withStroke(linewidth=3, foreground="white")]

STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the common style and leave matplotlib's own settings as they were."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return wrapper


def canvas(width: float = 6.4, height: float = 4.2) -> Figure:
    """An empty figure, sizes in inches, that no global state knows about."""
    # not by pyplot, which keeps every figure until it is closed and may look for a display
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame away: for pictures made of pixels."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def colours(count: int) -> list[tuple[float, float, float]]:
    """One colour per component: colour-blind safe up to eight, evenly spaced hues beyond."""
    if count <= len(OKABE_ITO):
        return [to_rgb(colour) for colour in OKABE_ITO[:count]]
    wheel = matplotlib.colormaps["turbo"]
    return [wheel(0.05 + 0.9 * index / (count - 1))[:3] for index in range(count)]


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 144) -> Path:
    """Write a PNG, atomically, so that no reader meets half a picture.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = io.BytesIO()
    # without matplotlib's version, so that an update leaves equal pictures equal
    figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
    write_atomically(path, image.getvalue())
    return path
