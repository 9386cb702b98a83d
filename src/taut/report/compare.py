"""Evaluations of several runs side by side."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from taut.report.evaluation import LABELS, interval_words, number, signed

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


def comparison_tables(results: Sequence[Result]) -> list[Table]:
    """One table for each group of comparable evaluations."""
    return [_table(group) for group in comparable(results).values()]


def _table(results: Sequence[Result]) -> Table:
    first = results[0]
    title = (
        f"{first['split']} split of {first['data']}, binarisation {first['binarisation']}: {first['n']:,} data, "
        f"K = {first['k']:,}, nats"
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
        table.add_row(*_row(result, estimators, len(table.columns)))
    return table


def _settings(result: Result) -> list[str]:
    told = {
        name: ", ".join(f"{key}={value}" for key, value in one.items()) for name, one in result["estimators"].items()
    }
    return [f"{LABELS.get(name, name)} {words}" for name, words in told.items() if words]


def _row(result: Result, estimators: Sequence[str], width: int) -> list[str]:
    cells = [result["run"]]
    for name in estimators:
        score = result["evidence"].get(name)
        cells.append("" if score is None else _value(score))
    cells.append(interval_words(result["gap"], 2))
    apart = result["apart"].get(result["split"]) if result["apart"] else None
    cells.append("" if apart is None else signed(apart["amortisation"], 2))
    return cells[:width]


def _value(score: Mapping[str, Any]) -> str:
    sign = {"lower": "≥ ", "upper": "≤ ", "estimate": "~ ", "exact": ""}[score["kind"]]
    doubt = " ?" if score["doubts"] else ""
    return f"{sign}{number(score['value'], 2)}{doubt}"
