"""The thermodynamic curve: the gap as an area."""

from collections.abc import Sequence
from math import isfinite
from textwrap import fill

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from taut.report.figures.bracket import FLAT, LOOK
from taut.report.figures.style import BLUE, GREY, HALO, INK, ORANGE, canvas, precise, styled


@styled
def thermodynamic(
    betas: Float[np.ndarray, " n"],
    integrand: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"] | None = None,
    *,
    elbo: float,
    log_px: float | None,
    log_px_kind: str,
    trusted: bool,
    title: str,
) -> Figure:
    r"""$E_{\pi_\beta} \log w$ against $\beta$: the area under it is $\log p(x)$, the area above the ELBO is the gap.

    $\pi_\beta \propto q^{1-\beta} p(x, z)^\beta$ (Masrani, Le & Wood, 2019). The steps are the left and the right
    Riemann sum.

    Args:
        betas: Points from 0 (q) to 1 (the posterior).
        integrand: Mean over the data, nats; the first value is the ELBO.
        errors: Error of each value, nats, or ``None``.
        elbo: Mean ELBO, nats.
        log_px: Mean of the best value of $\log p(x)$, nats, or ``None``.
        log_px_kind: ``exact``, ``lower``, ``upper`` or ``estimate``.
        trusted: Whether enough samples of q count for the curve near $\beta = 1$.
        title: What the picture is of.
    """
    figure = canvas(6.8, 4.6)
    axes = figure.add_subplot()
    axes.fill_between(betas, elbo, integrand, color=ORANGE, alpha=0.16, linewidth=0)
    axes.step(betas, integrand, where="post", color=GREY, linewidth=0.8)
    axes.step(betas, integrand, where="pre", color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(betas, integrand, color=BLUE, marker="o", markersize=3)
    if errors is not None:
        axes.fill_between(betas, integrand - errors, integrand + errors, color=BLUE, alpha=0.18, linewidth=0)
    span = _limits(axes, [elbo, *integrand] if log_px is None else [elbo, log_px, *integrand])
    scale = span / 3
    _levels(axes, elbo, log_px, log_px_kind, scale)
    _area(axes, betas, integrand, elbo)
    axes.set(xlabel="β, from q (0) to the posterior (1)", ylabel=r"$E\,\log w$, nats per datum")
    axes.set_title(fill(title, 58))
    figure.supxlabel(_caption(betas, integrand, scale, trusted=trusted), fontsize=8.5, color=GREY)
    axes.margins(x=0.02)
    return figure


def _limits(axes: Axes, values: Sequence[float]) -> float:
    """Room for words above and below; returns the height of what is drawn. Rounding errors do not fill a picture."""
    finite = [value for value in values if isfinite(value)]
    bottom, top = min(finite, default=0.0), max(finite, default=0.0)
    margin = 0.16 * (top - bottom) if top - bottom > FLAT / 50 else FLAT
    axes.set_ylim(bottom - margin, top + margin)
    return top - bottom


def _levels(axes: Axes, elbo: float, log_px: float | None, kind: str, scale: float) -> None:
    axes.axhline(elbo, color=INK, linewidth=1)
    axes.annotate(
        f"ELBO {precise(elbo, scale)}",
        (1, elbo),
        (0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        path_effects=HALO,
    )
    if log_px is None or not isfinite(log_px):
        return
    words = {"exact": "exact", "lower": "best lower bound", "upper": "best upper bound"}.get(kind, kind)
    axes.axhline(log_px, color=INK, linewidth=1, linestyle=LOOK[kind][1])
    axes.annotate(
        rf"$\log p(x)$ {precise(log_px, scale)}, {words}",
        (0, log_px),
        (2, 4),
        textcoords="offset points",
        path_effects=HALO,
    )


def _area(axes: Axes, betas: np.ndarray, integrand: np.ndarray, elbo: float) -> None:
    area = float(np.trapezoid(integrand, betas)) - elbo * float(betas[-1] - betas[0])
    if not isfinite(area):
        axes.annotate("the curve is not finite: no area", (0.02, 0.04), xycoords="axes fraction", color=ORANGE)
        return
    words = f"area = gap\n≈ {precise(area, abs(area))} nats"
    height = float(np.interp(0.78, betas, integrand)) - elbo
    bottom, top = axes.get_ylim()
    inside = height > 0.25 * (top - bottom)
    axes.annotate(
        words,
        (0.78, elbo + 0.35 * height if inside else elbo + max(height, 0.0)),
        (0, 0 if inside else 8),
        textcoords="offset points",
        ha="center",
        va="center" if inside else "bottom",
        color=ORANGE,
        path_effects=HALO,
    )


def _caption(betas: np.ndarray, integrand: np.ndarray, scale: float, *, trusted: bool) -> str:
    steps = np.diff(betas)
    left, right = (precise(float(np.dot(steps, values)), scale) for values in (integrand[:-1], integrand[1:]))
    lines = [
        f"left sum (solid steps) {left}: a lower bound",
        f"right sum (dotted steps) {right}: no bound when made from q-samples",
    ]
    if not trusted:
        lines.append("self-normalised from q-samples with few that count: an estimate, too low near β = 1")
    return "\n".join(lines)
