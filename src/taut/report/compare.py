"""Evaluations of several runs side by side, without an order: ``report.py`` says which differences are clear."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taut.report.evaluation import LABELS, interval_words, number, signed
from taut.report.scores import Scores

Result = Mapping[str, Any]

KEY = ("data", "binarisation", "mask", "likelihood", "split", "n", "data_digest", "precision", "k", "estimators")
"""What evaluations must have in common to share a column."""


def comparable(results: Sequence[Result]) -> dict[tuple[str, ...], list[Result]]:
    """Evaluations by what they were scored on and how: data, likelihood, precision and settings of every estimator.

    Scores of different binarisations, or a density and a mass of the same pixels, differ by nats for the same model,
    and bounds of different K by what K is worth, so they never share a column.
    """
    groups = defaultdict(list)
    for result in results:
        groups[tuple(str(result[name]) for name in KEY)].append(result)
    return dict(groups)


def comparison_tables(results: Sequence[Result]) -> list[RenderableType]:
    """One table for each group of comparable evaluations, each with what is void and what its scores depend on."""
    return [shown for group in comparable(results).values() for shown in (_table(group), _comparison_notes(group))]


def _table(results: Sequence[Result]) -> Table:
    first = results[0]
    rows = "" if first.get("held_out", True) else " (training rows)"
    title = (
        f"{first['split']} split{rows} of {first['data']}, binarisation {first['binarisation']}: log p(x) of "
        f"{first['n']:,} data, K = {first['k']:,}, nats"
    )
    how = "; ".join([f"{first['likelihood']} likelihood", first["precision"], *_settings(first)])
    title = Text(title, style="bold").append(f"\n{how}", style="not bold dim")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    estimators = list(dict.fromkeys(name for result in results for name in result["evidence"]))
    table.add_column("run", overflow="fold")
    for name in estimators:
        table.add_column(LABELS.get(name) or name, justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    if any(result["apart"] for result in results):
        table.add_column("amortisation", justify="right")
    for result in results:
        scores = Scores.evaluated(result, "")
        table.add_row(*_comparison_row(result, scores.voids if scores else {}, estimators, len(table.columns)))
    return table


def _comparison_notes(results: Sequence[Result]) -> Text:
    known = [(result["run"], scores) for result in results if (scores := Scores.evaluated(result, ""))]
    lines = [(f"void: {run}: {sentence}\n", "bold red") for run, scores in known for sentence in scores.broken]
    lines += [(f"limit: {run}: {sentence}\n", "bold yellow") for run, scores in known for sentence in scores.limits]
    return Text.assemble(*lines, ("python report.py <runs> says which of these differences are clear\n", "dim"))


def _settings(result: Result) -> list[str]:
    told = {
        name: ", ".join(f"{key}={value}" for key, value in one.items()) for name, one in result["estimators"].items()
    }
    return [f"{LABELS.get(name, name)} {words}" for name, words in told.items() if words]


def _comparison_row(result: Result, voids: Mapping[str, str], estimators: Sequence[str], width: int) -> list[str]:
    cells = [result["run"]]
    for name in estimators:
        score = result["evidence"].get(name)
        cells.append("" if score is None else "void" if name in voids else _value(score))
    cells.append(_gap(result, voids))
    apart = result["apart"].get(result["split"]) if result["apart"] else None
    void = f"apart {result['split']}" in voids
    cells.append("" if apart is None else "void" if void else signed(apart["amortisation"], 2))
    return cells[:width]


def _gap(result: Result, voids: Mapping[str, str]) -> str:
    if "gap" in voids:
        return "void"
    gap = result["gap"]
    return interval_words(gap | {"high": None} if gap["upper"] in voids else gap, 2) if gap else ""


def _value(score: Mapping[str, Any]) -> str:
    sign = {"lower": "≥ ", "upper": "≤ ", "estimate": "~ ", "exact": ""}[score["kind"]]
    doubt = " ?" if score["doubts"] else ""
    return f"{sign}{number(score['value'], 2)}{doubt}"
