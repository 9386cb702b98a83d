"""The latent plane: where q puts the data, and what the decoder makes of each place."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure

from taut.report.figures.images import grey_scale, tile_row
from taut.report.figures.style import BLUE, bare, canvas, styled


@styled
def latent_plane(
    mean: Float[np.ndarray, "n 2"],
    std: Float[np.ndarray, "n 2"] | None = None,
    *,
    colour: Float[np.ndarray, " n"] | None = None,
    colour_label: str = "ELBO, nats",
    grid: Float[np.ndarray, "g g c h w"] | None = None,
    extent: float = 3.0,
    title: str = "The latent plane",
) -> Figure:
    r"""Means of $q(z \mid x)$ in the plane and, beside them, decoded images on a grid over the same plane.

    Args:
        mean: Mean of $q(z \mid x)$ for each datum.
        std: Its standard deviations, drawn as one-sigma ellipses.
        colour: One number per datum, such as its ELBO in nats.
        colour_label: Name and unit of ``colour``.
        grid: Decoder means, first axis $z_2$ ascending, second axis $z_1$ ascending.
        extent: The grid covers ``[-extent, extent]`` on both axes.
        title: What the picture is of.
    """
    figure = canvas(5.4 if grid is None else 10.2, 4.8)
    panels = np.atleast_1d(figure.subplots(1, 1 if grid is None else 2))
    _scatter(figure, panels[0], mean, std, colour, colour_label)
    panels[0].set(xlabel="$z_1$", ylabel="$z_2$", title=title, aspect="equal")
    panels[0].set_aspect("equal", adjustable="datalim")
    if grid is not None:
        _decoded(panels[1], grid, extent)
    return figure


def _scatter(
    figure: Figure,
    axes: Axes,
    mean: np.ndarray,
    std: np.ndarray | None,
    colour: np.ndarray | None,
    colour_label: str,
) -> None:
    if std is not None:
        axes.add_collection(
            EllipseCollection(
                2 * std[:, 0],
                2 * std[:, 1],
                np.zeros(len(std)),
                units="xy",
                offsets=mean,
                offset_transform=axes.transData,
                facecolors=BLUE,
                alpha=min(0.05, 4 / len(std)),
                linewidths=0,
            )
        )
    if colour is None:
        axes.scatter(mean[:, 0], mean[:, 1], s=12, color=BLUE, linewidths=0)
        return
    low, high = np.quantile(colour, (0.02, 0.98))  # the colours' range is for the many, not for one outlier
    points = axes.scatter(mean[:, 0], mean[:, 1], s=12, c=colour, vmin=low, vmax=high, linewidths=0)
    bar = figure.colorbar(points, ax=axes, shrink=0.85, pad=0.02, extend="both")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(colour_label)


def _decoded(axes: Axes, grid: Float[np.ndarray, "g g c h w"], extent: float) -> None:
    low, high = grey_scale(grid.reshape(-1, *grid.shape[2:]))
    strips = [tile_row(row, len(row), low, high, gap=0) for row in grid[::-1]]
    frame = (-extent, extent, -extent, extent)
    axes.imshow(np.concatenate(strips), cmap="gray", vmin=0, vmax=1, extent=frame, interpolation="nearest")
    bare(axes)
    ticks = [-extent, 0, extent]
    axes.set(xticks=ticks, yticks=ticks, xlabel="$z_1$", ylabel="$z_2$", title="Decoder mean at each place")
