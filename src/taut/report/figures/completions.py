"""Images with missing pixels, their completions and the truth; and the same for the columns of a table."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from taut.report.figures.images import Images, grey_scale
from taut.report.figures.style import BLUE, GREY, HOLE, ORANGE, bare, canvas, styled

MOST_COLUMNS, LONGEST = 12, 18


@styled
def completions(rows: Mapping[str, Images], *, title: str | None = None) -> Figure:
    """One column per image, one labelled row per way to see it; missing pixels (NaN) are tinted.

    Args:
        rows: Label to images ``[n, c, h, w]``, c 1 or 3; the first row holds what is observed. In the others, what was
            hidden there is framed.
        title: Written above the first row.
    """
    first = next(iter(rows.values()))
    known = [images for images in rows.values() if not np.isnan(images).any()]
    low, high = grey_scale(known[0]) if known else (0.0, 1.0)
    figure = canvas(max(6.4, 1.4 + 0.78 * len(first)), 0.2 + 0.8 * len(rows) + 0.3 * (title is not None))
    axes = np.atleast_2d(figure.subplots(len(rows), len(first), gridspec_kw={"wspace": 0.02, "hspace": 0.02}))
    for line, (label, images) in zip(axes.reshape(len(rows), -1), rows.items(), strict=True):
        for place, image, seen in zip(line, images, first, strict=True):
            place.imshow(_coloured(image, low, high), interpolation="nearest")
            _outline(place, np.isnan(seen[0]))
            bare(place)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
    if title is not None:
        figure.suptitle(title, fontsize=11.5, fontweight="bold")
    return figure


def _coloured(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """``[c, h, w]`` to ``[h, w, 3]`` with missing pixels tinted."""
    scaled = np.clip((image - low) / (high - low), 0, 1).transpose(1, 2, 0)
    rgb = np.repeat(scaled, 3, 2) if scaled.shape[2] == 1 else scaled
    return np.where(np.isnan(rgb), to_rgb(HOLE), rgb)


def _outline(axes, hidden: np.ndarray) -> None:
    """The border of what is hidden, pixel by pixel, where it is of one piece and not the whole image."""
    beside, below = (np.argwhere(np.diff(hidden, axis=axis)) for axis in (1, 0))
    if 0 < len(beside) + len(below) <= 2 * sum(hidden.shape):
        upright = [[(x + 0.5, y - 0.5), (x + 0.5, y + 0.5)] for y, x in beside]
        flat = [[(x - 0.5, y + 0.5), (x + 0.5, y + 0.5)] for y, x in below]
        axes.add_collection(LineCollection(upright + flat, colors=ORANGE, linewidths=1.1, capstyle="projecting"))


@styled
def completed_columns(
    x: Float[np.ndarray, "n d"],
    draws: Float[np.ndarray, "m n d"],
    names: Sequence[str],
    *,
    title: str | None = None,
) -> Figure:
    """For every column (the first twelve), the observed values and those that draws put into its missing cells.

    Args:
        x: The table, NaN where a cell is missing.
        draws: Completed tables.
        names: Names of the columns.
        title: Written above.
    """
    shown = min(x.shape[1], MOST_COLUMNS)
    across = min(4, shown)
    down = -(-shown // across)
    figure = canvas(2.3 * across + 0.6, 1.7 * down + 0.7)
    grid = np.atleast_1d(figure.subplots(down, across)).flatten()
    for axes in grid[shown:]:
        axes.set_visible(False)
    for axes, values, filled, name in zip(grid, x.T, draws.transpose(2, 0, 1), names, strict=False):
        missing = np.isnan(values)
        parts = [part for part in (values[~missing], filled[:, missing].ravel()) if len(part)]
        bins = np.histogram_bin_edges(np.concatenate(parts), 24)
        if not missing.all():
            axes.hist(values[~missing], bins, density=True, color=GREY, alpha=0.45, label="observed")
        if missing.any():
            axes.hist(filled[:, missing].ravel(), bins, density=True, histtype="step", color=BLUE, label="filled in")
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026"
        axes.set_title(f"{short}, {missing.mean():.0%} missing", fontsize=8.5, fontweight="normal", pad=3)
        axes.set(yticks=[])
        axes.tick_params(labelsize=8)
    every = (axes.get_legend_handles_labels() for axes in grid)
    known = {label: handle for handles, labels in every for handle, label in zip(handles, labels, strict=True)}
    if "filled in" in known:
        figure.legend(list(known.values()), list(known), loc="outside lower center", ncols=2)
    if title is not None:
        figure.suptitle(title, fontsize=11.5, fontweight="bold")
    return figure
