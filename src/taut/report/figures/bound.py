"""The bound-versus-K curve: how much of the gap each further importance sample closes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from taut.report.figures.style import (
    BLUE,
    GREY,
    HALO,
    INK,
    ORANGE,
    PURPLE,
    canvas,
    legible,
    per_datum,
    precise,
    styled,
)


@styled
def bound_versus_k(
    ks: Int[np.ndarray, " n"],
    mean: Float[np.ndarray, " n"],
    standard_error: Float[np.ndarray, " n"],
    *,
    log_px: float | None = None,
    log_px_kind: Literal["exact", "lower"] = "exact",
    title: str = "The bound tightens with K",
) -> Figure:
    r"""$L_K$ against $K$, with the gap between the ELBO ($K = 1$) and $\log p(x)$ shaded.

    Where $\log p(x)$ is exact the shaded height is the gap; where it is only a lower bound the height is
    a lower bound of the gap, and the picture says so.

    Args:
        ks: Numbers of importance samples, ascending, starting at 1.
        mean: Mean of $L_K$ over the data, nats.
        standard_error: Standard error of that mean over the data, nats. It is of how data differ, which moves all
            points alike, so it is said in words: whiskers would suggest that the curve might be flat.
        log_px: Mean of $\log p(x)$, nats, or ``None`` when the last bound stands in for it.
        log_px_kind: Whether ``log_px`` is ``exact`` or a ``lower`` bound.
        title: What the picture is of.
    """
    figure = canvas()
    axes = figure.add_subplot()
    exact = log_px is not None and log_px_kind == "exact"
    top = float(mean[-1]) if log_px is None else float(log_px)
    _shade_gap(axes, float(mean[0]), top, exact=exact)
    _ceiling(axes, top, exact=exact)
    axes.plot(ks, mean, color=BLUE, marker="o", markersize=5)
    axes.annotate(
        f"ELBO {precise(mean[0])}",
        (ks[0], mean[0]),
        (8, -7),
        textcoords="offset points",
        va="top",
        color=BLUE,
        path_effects=HALO,
    )
    k_axis(axes, ks)
    axes.set(ylabel=per_datum(float(standard_error[-1]), "all K"), title=title)
    axes.margins(y=0.14)
    return figure


def _shade_gap(axes: Axes, elbo: float, top: float, *, exact: bool) -> None:
    axes.axhspan(elbo, top, color=ORANGE, alpha=0.10, linewidth=0)
    sign = "=" if exact else r"$\geq$"
    axes.annotate(
        f"gap {sign} {precise(top - elbo, top - elbo)} nats",
        (0.985, elbo),
        (0, 7),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        color=ORANGE,
        path_effects=HALO,
    )


def _ceiling(axes: Axes, top: float, *, exact: bool) -> None:
    label = r"exact $\log p(x)$" if exact else r"$\log p(x)$, lower bound"
    axes.axhline(top, color=INK if exact else GREY, linestyle="-" if exact else (0, (5, 3)), linewidth=1.3)
    axes.annotate(
        f"{label} {precise(top)}",
        (0.01, top),
        (0, 7),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=INK if exact else GREY,
        path_effects=HALO,
    )


def k_axis(axes: Axes, ks: Int[np.ndarray, " n"], most: int = 12) -> None:
    """Set a logarithmic axis with the numbers of samples written out, at most so many of them."""
    axes.set_xscale("log")
    shown = [int(k) for k in legible(ks, most)]
    axes.set_xticks(shown, [f"{k:,}".replace(",", "\u2009") for k in shown])
    # a logarithmic axis would write powers of ten between the numbers of samples
    axes.minorticks_off()
    axes.set_xlabel("K, importance samples per datum")


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
        rows: One mapping per epoch with ``epoch``, counted from 0 and drawn from 1, and any of ``val/bound``,
            ``val/elbo``, ``val/log_px`` (nats); a missing value is left out of its line.
        log_px_kind: ``exact`` or ``lower``: how the line for $\log p(x)$ is to be read.
        title: What the picture is of.
    """
    figure = canvas()
    axes = figure.add_subplot()
    epoch = np.array([row["epoch"] + 1 for row in rows], dtype=float)
    series = {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name, *_ in LINES}
    for name, label, colour, width in LINES:
        _line(axes, epoch, series[name], _named(label, name, log_px_kind), color=colour, linewidth=width)
    _shade_between(axes, epoch, series, "gap" if log_px_kind == "exact" else "gap, at least")
    _fit_view(axes, series)
    axes.set(xlabel="epoch", ylabel="nats per datum", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", reverse=True)
    return figure


def _named(label: str, name: str, kind: str) -> str:
    return f"{label}, {'exact' if kind == 'exact' else 'lower bound'}" if name == "val/log_px" else label


def _line(axes: Axes, epoch: np.ndarray, values: np.ndarray, label: str, **look: Any) -> None:
    # a label without a line would stand in the legend
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
