"""Rows of small images under one another: inputs, reconstructions, samples."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from taut.report.figures.style import HOLE, bare, canvas, styled

GREYS = matplotlib.colormaps["gray"].with_extremes(bad=HOLE)
Images = Float[np.ndarray, "n c h w"]


@styled
def image_rows(rows: Mapping[str, Images], *, title: str | None = None) -> Figure:
    """One labelled row of images per entry, all on the grey scale of the first row; missing pixels (NaN) are tinted.

    Args:
        rows: Label to images ``[n, c, h, w]`` with ``c`` 1 (grey) or 3 (colour); rows may differ in ``n``.
        title: Written above the first row.

    Raises:
        ValueError: If ``rows`` is empty or an entry is not ``[n, 1 or 3, h, w]``.
    """
    if not rows:
        raise ValueError("image_rows needs at least one row of images, received none")
    columns = max(len(images) for images in rows.values())
    figure = canvas(1.2 + 0.72 * columns, 0.25 + 0.78 * len(rows) + 0.3 * (title is not None))
    low, high = grey_scale(next(iter(rows.values())))
    for axes, (label, images) in zip(np.atleast_1d(figure.subplots(len(rows), 1)), rows.items(), strict=True):
        axes.imshow(tile_row(images, columns, low, high), cmap=GREYS, vmin=0, vmax=1, interpolation="nearest")
        axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        bare(axes)
    if title is not None:
        figure.suptitle(title, fontsize=11.5, fontweight="bold")
    return figure


def grey_scale(images: Images) -> tuple[float, float]:
    """Black and white: 0 and 1 for pixels, the range of the images for anything else."""
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    # the two ends apart, or an image of one value would be divided by 0
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-12))


def tile_row(images: Images, columns: int, low: float, high: float, gap: int = 1) -> np.ndarray:
    """Images side by side, scaled to [0, 1], with white between them: ``[h, w]`` or ``[h, w, 3]``."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must have shape [n, 1 or 3, h, w], received {list(images.shape)}")
    _, c, h, w = images.shape
    strip = np.ones((h, columns * (w + gap) - gap, c))
    for index, image in enumerate(np.clip((images - low) / (high - low), 0, 1)):
        strip[:, index * (w + gap) : index * (w + gap) + w] = image.transpose(1, 2, 0)
    return strip[..., 0] if c == 1 else strip
