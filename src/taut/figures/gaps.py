"""The gap of every datum, and the images where it is largest."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taut.figures.labels import precise
from taut.figures.style import BLUE, INK, ORANGE, bare, canvas, styled

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
    """How the gap is spread over the data, with the worst ones shown.

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
