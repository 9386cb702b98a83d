"""The latent plane: where q puts the data, and what the decoder makes of each place."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

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
    figure = canvas(5.4 if grid is None else 8.8, 4.7 if grid is None else 4.4)
    panels = np.atleast_1d(figure.subplots(1, 1 if grid is None else 2))
    _scatter(figure, panels[0], mean, std, colour, colour_label)
    panels[0].set(xlabel="$z_1$", ylabel="$z_2$", title="Means of q, one dot a datum", aspect="equal")
    # one frame for both panels, so that a place of the plane is at the same place in both
    reach = max(extent, 1.04 * float(np.abs(mean).max(initial=0.0)))
    panels[0].set(xlim=(-reach, reach), ylim=(-reach, reach))
    panels[0].xaxis.set_major_locator(MultipleLocator(max(1, round(reach / 3))))
    panels[0].yaxis.set_major_locator(MultipleLocator(max(1, round(reach / 3))))
    if grid is not None:
        _decoded(panels[1], grid, extent, reach)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
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


def _decoded(axes: Axes, grid: Float[np.ndarray, "g g c h w"], extent: float, reach: float) -> None:
    """The decoder's mean at each place, side by side with a line between them, on the frame of the other panel."""
    low, high = grey_scale(grid.reshape(-1, *grid.shape[2:]))
    strips = [tile_row(row, len(row), low, high, gap=1) for row in grid[::-1]]
    line = np.ones_like(strips[0][:1])
    picture = np.concatenate([part for strip in strips for part in (strip, line)][:-1])
    # the centre of a tile lies at its place
    edge = extent * len(grid) / max(len(grid) - 1, 1)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge), interpolation="nearest")
    bare(axes)
    ticks = [-extent, 0, extent]
    limits = (-max(reach, edge), max(reach, edge))
    axes.set(xlim=limits, ylim=limits)
    axes.set(xticks=ticks, yticks=ticks, xlabel="$z_1$", ylabel="$z_2$", title="Decoder mean at each place")
