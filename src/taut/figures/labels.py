"""Numbers and words on a picture: how many decimals, which ticks, and how far apart."""

from collections.abc import Iterable
from math import floor, inf, isfinite, log10

import numpy as np
from jaxtyping import Int


def spread(values: Iterable[float], distance: float, low: float = -inf, high: float = inf) -> list[float]:
    r"""Positions in the order of the values, ``distance`` apart or more, moved as little as can be (least squares).

    Minimises $\sum_i (p_i - v_i)^2$ by isotonic regression of $v_i - i d$ over the sorted values. Inside
    ``[low, high]`` where they fit there; where they do not, they are closer than ``distance``.
    """
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    if n > 1:
        distance = min(distance, (high - low) / (n - 1))
    order, steps = np.argsort(values, kind="stable"), distance * np.arange(n)
    free = values[order] - steps
    level = [max(min(free[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    placed = np.empty(n)
    placed[order] = np.clip(level, low, max(low, high - distance * (n - 1))) + steps
    return placed.tolist()


def legible(ks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The numbers of samples that can be written under a logarithmic axis without touching, both ends among them."""
    apart = log10(ks[-1] / ks[0]) / 12
    kept = [ks[-1]]
    for k in ks[-2:0:-1]:
        if min(log10(kept[-1] / k), log10(k / ks[0])) > apart:
            kept.append(k)
    return np.unique([ks[0], *kept])


def precise(value: float, scale: float) -> str:
    """As many decimals as show two digits of ``scale``, at least two; the minus sign of the axes, no minus zero."""
    if not isfinite(value):
        return "not finite"
    decimals = min(max(2, 1 - floor(log10(scale))), 6) if isfinite(scale) and scale > 1e-6 else 2
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\u2212")
