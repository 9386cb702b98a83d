"""Evaluations of several runs side by side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from taut.report.evaluation import LABELS, interval_words, number, signed

Result = Mapping[str, Any]


def comparable(results: Sequence[Result]) -> dict[tuple[str, ...], list[Result]]:
    """Evaluations by what they were scored on: data, binarisation, mask, split, rows, digest, precision.

    Scores of different binarisations differ by nats for the same model, so they never share a column; nor do the
    probability of a binary image and the density of its numbers.
    """
    groups = defaultdict(list)
    for result in results:
        key = ("data", "binarisation", "mask", "split", "n", "k", "data_digest", "precision")
        kind = "mass" if result["likelihood"] == "bernoulli" else "density"
        groups[(*(str(result[name]) for name in key), kind)].append(result)
    return dict(groups)


def comparison_tables(results: Sequence[Result]) -> list[Table]:
    """One table for each group of comparable evaluations."""
    return [_table(group) for group in comparable(results).values()]


def _table(results: Sequence[Result]) -> Table:
    first = results[0]
    title = (
        f"{first['split']} split of {first['data']}, binarisation {first['binarisation']}: {first['n']:,} data, "
        f"K = {first['k']:,}, nats"
    )
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    estimators = list(dict.fromkeys((name, one["k"]) for result in results for name, one in result["evidence"].items()))
    names = [name for name, _ in estimators]
    table.add_column("run", overflow="fold")
    for name, k in estimators:
        many = f" {k:,}" if names.count(name) > 1 and k is not None else ""
        table.add_column(f"{LABELS.get(name) or name}{many}", justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    if any(result["apart"] for result in results):
        table.add_column("amortisation", justify="right")
    for result in results:
        table.add_row(*_row(result, estimators, len(table.columns)))
    return table


def _row(result: Result, estimators: Sequence[tuple[str, int | None]], width: int) -> list[str]:
    cells = [result["run"]]
    for name, k in estimators:
        score = result["evidence"].get(name)
        cells.append("" if score is None or score["k"] != k else _value(score))
    cells.append(interval_words(result["gap"], 2))
    apart = result["apart"].get(result["split"]) if result["apart"] else None
    cells.append("" if apart is None else signed(apart["amortisation"], 2))
    return cells[:width]


def _value(score: Mapping[str, Any]) -> str:
    sign = {"lower": "≥ ", "upper": "≤ ", "estimate": "~ ", "exact": ""}[score["kind"]]
    doubt = " ?" if score["doubts"] else ""
    return f"{sign}{number(score['value'], 2)}{doubt}"
