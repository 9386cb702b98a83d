"""The numbers behind the plots of a page, as plain values for its script."""

from collections.abc import Mapping, Sequence
from typing import Any

from taut.report.names import Names, names_of
from taut.report.runs import Run
from taut.report.scores import Apart, Bracket, Score, Scores
from taut.report.tables import Section

MOST_POINTS = 60
"""Epochs of one run that are drawn."""
MOST_AXES = 7
"""Words beside K and the scores in the parallel coordinates."""
ALWAYS = ("prior", "q")


def plotted(section: Section) -> dict[str, Any]:
    """What is drawn of a set of comparable scores."""
    entries = section.scores.entries
    return {
        "source": section.scores.source,
        "rows": [
            {"run": place, "label": label, "series": series, "k": entry.run.k, **_scores(entry.scores)}
            for place, label, series, entry in zip(
                section.runs, section.names.labels, section.names.series, entries, strict=True
            )
        ],
        "axes": _axes(section.names, [entry.run for entry in entries]),
    }


def waiting(runs: Sequence[Run], places: Sequence[int]) -> dict[str, Any]:
    """What is drawn of runs without scores: how far they have come."""
    names = names_of(runs)
    rows = zip(places, names.labels, names.series, runs, strict=True)
    return {
        "rows": [{"run": place, "label": label, "series": series, "k": run.k} for place, label, series, run in rows]
    }


def history(run: Run) -> dict[str, list[float]] | None:
    """Gap and bound on the validation split by epoch, thinned; ``None`` for a run that never validated."""
    rows = [row for row in run.history if "epoch" in row and ("val/gap" in row or "val/bound" in row)]
    if not rows:
        return None
    kept = [rows[i] for i in thinned(len(rows))]
    return {
        "epoch": [row["epoch"] + 1 for row in kept],
        "gap": [_short(row.get("val/gap")) for row in kept],
        "bound": [_short(row.get("val/bound")) for row in kept],
    }


def thinned(n: int, most: int = MOST_POINTS) -> list[int]:
    """At most so many of ``n`` places, evenly spread, the first and the last among them."""
    if n <= most:
        return list(range(n))
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})


def _scores(scores: Scores) -> dict[str, Any]:
    importance = scores.others.get("importance")
    return {
        "elbo": _pair(scores.elbo),
        "bound": _pair(scores.bound),
        "l_k": _pair(importance),
        "log_px": _ends(scores.log_px),
        "gap": _ends(scores.gap),
        "apart": {split: _apart(one) for split, one in scores.apart.items()},
    }


def _pair(score: Score | None) -> list[float | None] | None:
    return None if score is None else [score.value, score.error]


def _ends(bracket: Bracket | None) -> dict[str, Any] | None:
    if bracket is None:
        return None
    return {"low": _pair(bracket.low), "high": _pair(bracket.high), "exact": bracket.exact}


def _apart(apart: Apart) -> dict[str, Any]:
    return {"n": apart.n, "amortisation": _pair(apart.amortisation), "approximation": _ends(apart.approximation)}


def _axes(names: Names, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The axes of the parallel coordinates before K and the scores: name, and the word of every run."""
    varied = {name: values for name, values in names.varied.items() if name not in ("k", "seed")}
    constant: Mapping[str, Sequence[str]] = {
        name: [run.about.get(name, "") for run in runs] for name in ALWAYS if name not in varied
    }
    found = [*constant.items(), *varied.items()][:MOST_AXES]
    return [{"name": name.rpartition(".")[2], "values": list(values)} for name, values in found if any(values)]


def _short(value: float | None) -> Any:
    return None if value is None else float(f"{value:.6g}")
