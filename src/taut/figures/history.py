"""Tightness over training: the bounds against the epoch, the gap between them shaded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taut.figures.style import BLUE, INK, ORANGE, PURPLE, canvas, styled

LINES = (  # widths fall, so that lines that coincide are all seen
    ("val/elbo", "ELBO", PURPLE, 4.5),
    ("val/bound", "bound at k", BLUE, 2.6),
    ("val/log_px", r"$\log p(x)$", INK, 1.0),
)


@styled
def history(
    rows: Sequence[Mapping[str, float]],
    *,
    log_px_kind: str = "lower",
    title: str = "Validation, epoch by epoch",
) -> Figure:
    r"""Bound, ELBO and $\log p(x)$ on the validation split against the epoch.

    Args:
        rows: One mapping per epoch with ``epoch`` and any of ``val/bound``, ``val/elbo``, ``val/log_px``
            (nats); a missing value leaves a hole.
        log_px_kind: ``exact`` or ``lower``: how the line for $\log p(x)$ is to be read.
        title: What the picture is of.
    """
    figure = canvas()
    axes = figure.add_subplot()
    epoch = np.array([row["epoch"] for row in rows], dtype=float)
    series = {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name, *_ in LINES}
    for name, label, colour, width in LINES:
        _line(axes, epoch, series[name], _named(label, name, log_px_kind), color=colour, linewidth=width)
    _shade_between(axes, epoch, series, "gap" if log_px_kind == "exact" else "gap, at least")
    _fit_view(axes, series)
    axes.set(xlabel="epoch", ylabel="nats per datum", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", reverse=True)
    return figure


def _named(label: str, name: str, kind: str) -> str:
    return f"{label}, {'exact' if kind == 'exact' else 'lower bound'}" if name == "val/log_px" else label


def _line(axes: Axes, epoch: np.ndarray, values: np.ndarray, label: str, **look: Any) -> None:
    seen = np.isfinite(values)
    if seen.any():
        axes.plot(epoch[seen], values[seen], label=label, marker="o" if seen.sum() < 15 else "", **look)


def _shade_between(axes: Axes, epoch: np.ndarray, series: Mapping[str, np.ndarray], label: str) -> None:
    elbo, log_px = series["val/elbo"], series["val/log_px"]
    seen = np.isfinite(elbo) & np.isfinite(log_px)
    if seen.any():
        axes.fill_between(epoch[seen], elbo[seen], log_px[seen], color=ORANGE, alpha=0.12, linewidth=0, label=label)


def _fit_view(axes: Axes, series: Mapping[str, np.ndarray]) -> None:
    """Keep the first, far worse, epochs from flattening the rest: the view starts at the 5 % quantile."""
    values = np.concatenate([v[np.isfinite(v)] for v in series.values()])
    if len(values) > 20:
        low, high = np.quantile(values, 0.05), values.max()
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
