"""Pictures of an evaluation."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from taut.api.evaluation import HasRows
from taut.evidence.gap import interval
from taut.evidence.loop import BETAS, EvalResult
from taut.report import figures

WORST = 8
"""Images in the histogram of gaps: those with the largest."""
AT_EQUAL_COST = ("uniform", "naive", "importance")
"""Estimators whose every sample costs one evaluation of the model."""


def evaluation_figures(
    result: Mapping[str, Any], measured: Mapping[str, EvalResult], data: HasRows, split: str
) -> Iterator[tuple[str, Figure]]:
    """Name and figure of every picture that the evaluation can make; none of what is void."""
    if measured[split].void:
        return
    title = f"{result['name']}, {split}"
    curves = result["curve"]
    if "importance" in curves:
        yield "bracket", _bracket(result, title)
    yield "thermodynamic", _thermodynamic(result, measured[split], title)
    yield "gaps", _histogram(measured[split], data, split, title)
    if len([name for name in AT_EQUAL_COST if name in curves]) > 1:
        yield "equal_cost", _equal_cost(result, title)
    if result["apart"]:
        rows = [bar(name, gap) for name, gap in result["apart"].items()]
        yield "gap_apart", figures.stacked_gaps(rows, title=result["name"])


def _bracket(result: Mapping[str, Any], title: str) -> Figure:
    curve = result["curve"]["importance"]
    levels = [
        {"label": name, "value": estimate["value"], "kind": estimate["kind"]}
        for name, estimate in result["evidence"].items()
        if name not in ("elbo", "importance")
    ]
    elbo = result["evidence"]["elbo"]["value"]
    ks, values = (np.asarray(curve[name]) for name in ("k", "value"))
    error = result["evidence"]["importance"]["standard_error"]
    return figures.bracket(ks, values, elbo=elbo, error=error, levels=levels, title=title, ends=_ends(result))


def _ends(result: Mapping[str, Any]) -> tuple[float, float]:
    """The bounds of log p(x) that the gap was taken from, or twice the exact value."""
    gap, evidence = result["gap"], result["evidence"]
    upper = None if gap["upper"] is None else evidence[gap["upper"]]["value"]
    return evidence[gap["lower"]]["value"], math.inf if upper is None else upper


def _thermodynamic(result: Mapping[str, Any], scores: EvalResult, title: str) -> Figure:
    gap, curve = result["gap"], scores.thermodynamic
    best = result["evidence"][gap["lower"]]
    return figures.thermodynamic(
        np.asarray(BETAS),
        curve.mean(1).numpy(),
        elbo=result["evidence"]["elbo"]["value"],
        log_px=best["value"],
        log_px_kind=best["kind"],
        trusted=not result["evidence"].get("importance", {"doubts": ["unknown"]})["doubts"],
        title=title,
    )


def _histogram(scores: EvalResult, data: HasRows, split: str, title: str) -> Figure:
    gap = interval(scores.trusted_elbo, scores.trusted)
    worst = gap.low.argsort(descending=True)[:WORST]
    images = data.rows_of(split)[worst].double().numpy()
    is_image = images.ndim == 4 and images.shape[1] in (1, 3)
    return figures.gap_histogram(
        gap.low.numpy(),
        None if gap.high is None else gap.high.numpy(),
        exact=gap.exact,
        images=images.mean(1) if is_image else None,
        image_rows=worst.tolist(),
        title=title,
    )


def _equal_cost(result: Mapping[str, Any], title: str) -> Figure:
    curves = {name: result["curve"][name] for name in AT_EQUAL_COST if name in result["curve"]}
    sizes = sorted(set.intersection(*(set(curve["k"]) for curve in curves.values())))
    shown = {
        name: {
            "mean": np.asarray(curve["value"])[[curve["k"].index(k) for k in sizes]],
            "error": np.asarray(curve["standard_error"])[[curve["k"].index(k) for k in sizes]],
            "kind": result["evidence"][name]["kind"],
        }
        for name, curve in curves.items()
    }
    return figures.equal_cost(np.asarray(sizes), shown, exact=_exact(result), title=title)


def _exact(result: Mapping[str, Any]) -> float | None:
    return next((score["value"] for score in result["evidence"].values() if score["kind"] == "exact"), None)


def bar(label: str, gap: Mapping[str, Any]) -> dict[str, Any]:
    """One bar: the lower end of the approximation gap; the middle of both ends where noise makes them cross."""
    low, high = gap["approximation"]["low"], gap["approximation"]["high"]
    between = [low["value"], low["value"] if high is None else high["value"]]
    crossed = not gap["exact"] and between[1] < between[0]
    return {
        "label": label,
        "approximation": sum(between) / 2 if crossed else low["value"],
        "amortisation": gap["amortisation"]["value"],
        "approximation_error": low["standard_error"],
        "amortisation_error": gap["amortisation"]["standard_error"],
        "sign": "" if gap["exact"] else "≈" if crossed else "≥",
    }
