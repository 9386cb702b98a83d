"""The bound-versus-K curve: how much of the gap each further importance sample closes."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taut.figures.style import BLUE, GREY, HALO, INK, ORANGE, canvas, nats, styled


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
        standard_error: Standard error of that mean over the data, nats.
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
    axes.errorbar(ks, mean, yerr=standard_error, color=BLUE, marker="o", markersize=5, capsize=3, elinewidth=1.2)
    axes.annotate(
        f"ELBO {nats(mean[0])}",
        (ks[0], mean[0]),
        (8, -4),
        textcoords="offset points",
        va="top",
        color=BLUE,
        path_effects=HALO,
    )
    k_axis(axes, ks)
    axes.set(ylabel="nats per datum", title=title)
    axes.margins(y=0.14)
    return figure


def _shade_gap(axes: Axes, elbo: float, top: float, *, exact: bool) -> None:
    axes.axhspan(elbo, top, color=ORANGE, alpha=0.10, linewidth=0)
    sign = "=" if exact else r"$\geq$"
    axes.annotate(
        f"gap {sign} {nats(top - elbo)} nats",
        (0.985, elbo),
        (0, 6),
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
        f"{label} {nats(top)}",
        (0.01, top),
        (0, 4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=INK if exact else GREY,
        path_effects=HALO,
    )


def k_axis(axes: Axes, ks: Int[np.ndarray, " n"]) -> None:
    """A logarithmic axis with the numbers of samples written out."""
    axes.set_xscale("log")
    shown = [int(k) for k in ks] if len(ks) <= 12 else [int(k) for k in ks[:: 1 + len(ks) // 12]]
    axes.set_xticks(shown, [f"{k:,}".replace(",", "\u2009") for k in shown])
    axes.minorticks_off()
    axes.set_xlabel("K, importance samples per datum")
