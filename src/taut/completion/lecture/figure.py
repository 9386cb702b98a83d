"""The lecture in one picture: which completions are tried, what they estimate, and how far below the truth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

from taut.report.figures.style import BLUE, GREEN, HALO, HOLE, INK, ORANGE, bare, canvas, styled

COLOURS = {"uniform": ORANGE, "learned q": BLUE, "posterior": GREEN}


@styled
def lecture(
    sizes: Sequence[int],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    image: np.ndarray,
    seen: np.ndarray,
    title: str,
) -> Figure:
    """Completions of one image by every method; the log-estimate against K; the gap at K = 1.

    Args:
        sizes: The numbers of completions K.
        methods: By name: ``mean``, ``low`` and ``high`` of the log-estimate minus log p(x_obs) at every K, ``gap``
            (exact KL, nats), ``shown`` (completions ``[s, h, w]``).
        image: The image, ``[h, w]``.
        seen: The mask, true where observed, ``[h, w]``.
        title: Written above.
    """
    figure = canvas(11.2, 4.9)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    left, right = figure.subfigures(1, 2, width_ratios=[0.8, 1.2], wspace=0.03)  # type: ignore[misc]
    _images(left, image, seen, {name: method["shown"] for name, method in methods.items()})
    curve, bars = right.subplots(1, 2, width_ratios=[2.5, 1.0])
    _curves(curve, np.asarray(sizes), methods)
    _bars(bars, {name: method["gap"] for name, method in methods.items()})
    return figure


def _images(figure: SubFigure, image: np.ndarray, seen: np.ndarray, shown: Mapping[str, np.ndarray]) -> None:
    columns = max(len(images) for images in shown.values())
    grid = figure.subplots(1 + len(shown), columns, squeeze=False)
    for axes in grid[0, 2:]:
        axes.set_visible(False)
    _image(grid[0, 0], image, seen, marks=True)
    _image(grid[0, 1], image, seen)
    grid[0, 0].set_title("observed", fontsize=9, pad=4, fontweight="normal", loc="center")
    grid[0, 1].set_title("truth", fontsize=9, pad=4, fontweight="normal", loc="center")
    for line, (name, images) in zip(grid[1:], shown.items(), strict=True):
        for axes, completed in zip(line, images, strict=True):
            _image(axes, completed, seen)
        line[0].set_ylabel(name, color=COLOURS.get(name, INK), fontweight="bold", labelpad=6)


def _image(axes: Axes, image: np.ndarray, seen: np.ndarray, *, marks: bool = False) -> None:
    rgb = np.repeat(image[..., None], 3, 2)
    if marks:
        rgb = np.where(seen[..., None], rgb, to_rgb(HOLE))
        for row, column in np.argwhere(~seen):
            axes.text(column, row, "?", ha="center", va="center", fontsize=6.5, color=INK)
    # nearest, because matplotlib may smooth pixels by default
    axes.imshow(rgb, vmin=0, vmax=1, interpolation="nearest")
    rows, columns = np.flatnonzero((~seen).any(1)), np.flatnonzero((~seen).any(0))
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    axes.add_patch(Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=ORANGE, linewidth=1.2))
    bare(axes)


def _curves(axes: Axes, sizes: np.ndarray, methods: Mapping[str, Mapping[str, Any]]) -> None:
    axes.axhline(0, color=INK, linewidth=1.2)
    axes.text(sizes[-1], 0.12, "log p(x_obs), all completions summed", ha="right", va="bottom", fontsize=9)
    for name, method in methods.items():
        colour = COLOURS.get(name, INK)
        axes.fill_between(sizes, method["low"], method["high"], color=colour, alpha=0.15, linewidth=0)
        axes.plot(sizes, method["mean"], color=colour, marker="o", markersize=4)
        place = (sizes[1], method["mean"][1])
        up = place[1] > -0.05
        offset, va = ((8, 4), "bottom") if up else ((8, -4), "top")
        axes.annotate(name, place, offset, textcoords="offset points", va=va, color=colour, path_effects=HALO)
    low = min(float(np.min(method["mean"])) for method in methods.values())
    axes.set(
        xscale="log", xlabel="completions K (band: 90% of the estimates)", ylim=(1.35 * low, max(1.0, -0.15 * low))
    )
    axes.set_ylabel("log-estimate minus log p(x_obs), nats")
    axes.set_title("K completions instead of all", fontsize=10)


def _bars(axes: Axes, gaps: Mapping[str, float]) -> None:
    for i, (name, gap) in enumerate(gaps.items()):
        axes.bar(i, gap, color=COLOURS.get(name, INK), width=0.7)
        axes.text(i, gap, f"{gap:.2f}", ha="center", va="bottom", fontsize=9)
    axes.set(xticks=range(len(gaps)), yticks=[])
    axes.set_xticklabels([name.replace(" ", "\n") for name in gaps], fontsize=9)
    axes.grid(visible=False)
    axes.margins(y=0.15)
    axes.set_title("gap at K = 1\n= KL(q ‖ posterior)", fontsize=10)
