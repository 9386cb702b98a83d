"""A mixture of Gaussians over its data: who is responsible for what, and with which shape."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from taut.report.figures.style import GREY, INK, canvas, colours, styled

MOST_POINTS = 3000


@styled
def mixture_scatter(
    x: Float[np.ndarray, "n d"],
    responsibilities: Float[np.ndarray, "n c"],
    weights: Float[np.ndarray, " c"],
    means: Float[np.ndarray, "c d"],
    covariances: Float[np.ndarray, "c d d"],
    *,
    columns: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    r"""Data coloured by $p(z \mid x)$, with one- and two-sigma ellipses of every component.

    One dimension becomes a histogram under the densities; more than two are projected, data, means and
    covariances alike, on the first two principal axes of the data.

    Args:
        x: Data.
        responsibilities: $p(z = c \mid x)$, rows sum to one; a point's colour is their blend.
        weights: Mixture weights.
        means: Component means.
        covariances: Component covariances.
        columns: Names of the ``d`` columns, for the axes.
        title: Says what the picture is of; the default counts the components.
    """
    figure = canvas(6.4, 4.6)
    default = f"{len(weights)} Gaussian components" + ", 1 and 2 sigma" * (x.shape[1] > 1)
    axes = figure.add_subplot()
    palette = colours(len(weights))
    if x.shape[1] == 1:
        _densities(axes, x[:, 0], weights, means[:, 0], covariances[:, 0, 0], palette)
        axes.set(xlabel=columns[0] if columns else "x", ylabel="density")
    else:
        x, means, covariances, labels = _plane(x, means, covariances, columns)
        _points(axes, x, responsibilities, palette)
        _ellipses(axes, weights, means, covariances, palette)
        axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_title(title or default)
    return figure


def _plane(
    x: Float[np.ndarray, "n d"],
    means: Float[np.ndarray, "c d"],
    covariances: Float[np.ndarray, "c d d"],
    columns: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    if x.shape[1] == 2:
        return x, means, covariances, list(columns or ("$x_1$", "$x_2$"))
    centre = x.mean(0)
    _, scale, axes = np.linalg.svd(x - centre, full_matrices=False)
    # not divided by 0 where all rows are equal
    axes, share = axes[:2], scale[:2] ** 2 / max((scale**2).sum(), 1e-300)
    labels = [f"principal axis {i + 1} of {x.shape[1]} ({share[i]:.0%} of variance)" for i in range(2)]
    return (x - centre) @ axes.T, (means - centre) @ axes.T, axes @ covariances @ axes.T, labels


def _points(axes: Axes, x: np.ndarray, responsibilities: np.ndarray, palette: list[tuple[float, float, float]]) -> None:
    # rounding can leave a blend just outside of what matplotlib takes for a colour
    blend = np.clip(responsibilities @ np.asarray(palette), 0, 1)
    # every so many rows, not a random choice: the picture is the same each time
    stride = -(-len(x) // MOST_POINTS)
    axes.scatter(
        x[::stride, 0],
        x[::stride, 1],
        s=16,
        c=blend[::stride],
        alpha=0.75,
        linewidths=0.3,
        edgecolors="white",
    )


def _ellipses(
    axes: Axes,
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    palette: list[tuple[float, float, float]],
) -> None:
    for weight, mean, covariance, colour in zip(weights, means, covariances, palette, strict=True):
        variances, directions = np.linalg.eigh(covariance)
        # eigh sorts ascending, so the last is the longest axis
        angle = np.degrees(np.arctan2(directions[1, -1], directions[0, -1]))
        for sigmas in (1, 2):
            # rounding can put an eigenvalue of a singular covariance below 0, whose root is NaN
            width, height = 2 * sigmas * np.sqrt(np.maximum(variances[::-1], 0))
            axes.add_patch(
                Ellipse(
                    mean,
                    width,
                    height,
                    angle=angle,
                    fill=False,
                    edgecolor=colour,
                    linewidth=2.2 - 0.7 * sigmas,
                )
            )
        axes.annotate(
            f"{weight:.2f}",
            mean,
            ha="center",
            va="center",
            fontsize=8.5,
            color=INK,
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "alpha": 0.85},
        )
    axes.autoscale_view()


def _densities(
    axes: Axes,
    x: np.ndarray,
    weights: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
    palette: list[tuple[float, float, float]],
) -> None:
    axes.hist(x, bins="auto", density=True, color=GREY, alpha=0.25, linewidth=0)
    pad = 0.05 * np.ptp(x)
    grid = np.linspace(x.min() - pad, x.max() + pad, 400)
    parts = weights * np.exp(-0.5 * (grid[:, None] - means) ** 2 / variances) / np.sqrt(2 * np.pi * variances)
    axes.plot(grid, parts.sum(1), color=INK, linewidth=4, alpha=0.25, label="mixture density")
    for part, weight, colour in zip(parts.T, weights, palette, strict=True):
        axes.plot(grid, part, color=colour, label=f"component, weight {weight:.2f}")
    if len(weights) <= 8:
        axes.legend()
