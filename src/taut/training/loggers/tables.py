"""Tables of a run that W&B puts together over many runs: a chart draws their rows, whichever run they are of.

Every row says what run it is of (``run``, ``model``, ``data``, ``prior``, ``q``, ``k``, ``seed``), since W&B knows the
rows of all runs by the name of the table alone.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taut.report.read.files import Reader

ABOUT = ("model", "data", "prior", "q", "k", "seed")

Row = Mapping[str, Any]
Tables = Mapping[str, Sequence[Row]]


def tested(result: Mapping[str, Any]) -> dict[str, list[Row]]:
    """``tables/gap``, one row: gap, ELBO and log p(x) of the test split with standard errors over the data, nats.

    ``kind`` is that of the gap.
    """
    scores = result["scores"]
    known = {key: one for name in ("gap", "elbo", "log_px") for key, one in _with_error(name, scores.get(name)).items()}
    if known["gap"] is None:
        return {}
    return {"tables/gap": _of_run(result, result, [{**known, "kind": scores["gap"].get("kind")}])}


def curve(result: Mapping[str, Any]) -> list[dict[str, float]]:
    """The bound of the test split at each ``k``: ``bound``, and ``left``, how far it is from log p(x); nats."""
    curve, log_px = result.get("curve"), finite(result["scores"].get("log_px", {}).get("value"))
    if not curve or log_px is None:
        return []
    points = zip(curve["k"], curve["value"], strict=True)
    return [{"k": k, "bound": value, "left": log_px - value} for k, value in points if finite(value) is not None]


def khat_of(evaluation: Path) -> list[float]:
    """Pareto k-hat of every datum that an evaluation has written down; none where it did not sample from q."""
    column = "importance_khat"
    values = Reader(evaluation).columns("data.csv", frozenset({column})).get(column, [])
    return [value for value in values if value is not None]


def evaluated(result: Mapping[str, Any], run: Mapping[str, Any], khat: Sequence[float]) -> dict[str, list[Row]]:
    """Tables of an evaluation: ``bounds``, ``kl_parts`` and ``khat``, each where it was computed.

    Args:
        result: What its ``result.json`` holds.
        run: ``k`` and ``seed`` of the training.
        khat: Pareto k-hat of each datum.
    """
    tables = {
        "bounds": _bounds(result),
        "kl_parts": _kl_parts(result.get("information")),
        "khat": [{"khat": value} for value in khat],
    }
    return {name: _of_run(result, run, rows) for name, rows in tables.items() if rows}


def gap_parts(result: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The gap in its two parts, by split; of the approximation gap the lower end."""
    return {split: _of_run(result, run, rows) for split, gap in result["apart"].items() if (rows := _gap_parts(gap))}


def _of_run(result: Mapping[str, Any], run: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
    """The rows, each with what run it is of."""
    about = {name: result.get(name) for name in ABOUT} | {"k": run["k"], "seed": run["seed"]}
    return [{"run": result["name"], **about, **row} for row in rows]


def _bounds(result: Mapping[str, Any]) -> list[Row]:
    """Both ends of the gap and of log p(x), nats; the upper ones are missing where nothing bounds it from above."""
    gap, evidence = result["gap"], result["evidence"]
    if finite(gap["low"]["value"]) is None:
        return []
    ends = {"gap_low": gap["low"], "gap_high": gap["high"], "log_px_low": evidence[gap["lower"]]}
    ends |= {"log_px_high": evidence.get(gap["upper"]), "elbo": evidence["elbo"]}
    if gap["exact"]:  # one number, both ends of an interval without a width
        ends |= {"gap_high": gap["low"], "log_px_high": evidence[gap["lower"]]}
    return [{key: value for name, end in ends.items() for key, value in _with_error(name, end).items()}]


def _with_error(name: str, score: Mapping[str, Any] | None) -> dict[str, Any]:
    known = score or {}
    return {name: finite(known.get("value")), f"{name}_error": finite(known.get("standard_error"))}


def _gap_parts(gap: Mapping[str, Any]) -> list[Row]:
    parts = {"approximation": gap["approximation"]["low"], "amortisation": gap["amortisation"]}
    rows = [
        {"part": part, "value": finite(score["value"]), "error": finite(score["standard_error"])}
        for part, score in parts.items()
    ]
    return [row for row in rows if row["value"] is not None]


def _kl_parts(information: Mapping[str, Any] | None) -> list[Row]:
    if information is None:
        return []
    named = {"I(x; z)": information["mutual_information"], "KL(q(z) || p(z))": information["marginal_kl"]}
    return [
        {"part": part, "value": finite(score["value"]), "error": finite(score["monte_carlo_error"])}
        for part, score in named.items()
    ]


def finite(value: float | None) -> float | None:
    """The number, or None where it is none: a chart cannot draw it, and JSON has no word for it."""
    return None if value is None or not math.isfinite(value) else value
