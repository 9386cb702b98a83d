"""The tables of a completion: log p(x_obs) by every estimator, and how far the completions are from the truth."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from taut.report.numbers import number
from taut.report.read.files import OF
from taut.report.tables.evaluation import rows_words, section, signed
from taut.report.tables.table import NARROW, new_table

Result = Mapping[str, Any]
OURS = ("draws", "mean", "most probable")
SCORES = {
    "energy": "energy score",
    "crps": "CRPS",
    "coverage_50": "in 50%",
    "coverage_90": "in 90%",
    "rmse": "RMSE",
    "nrmse": "RMSE",
    "error_rate": "error rate",
}
"""Columns of the table of errors, of those that there are."""
SHARES = {"coverage_50": 0, "coverage_90": 0, "error_rate": 1}
"""Those that are shares, and the digits of their percent."""


def completion_tables(result: Result) -> list[RenderableType]:
    """Everything of a completion's ``result.json`` that is worth a look."""
    hidden = "holes of the data" if result["mask"] == "from_data" else f"{result['mask'].replace('_', ' ')} hidden"
    refined = ", q refined for each datum" if result["refined"] else ""
    tables: list[RenderableType] = [
        Text(result["name"], style="bold"),
        Text(f"{hidden}, {result['observed_share']:.0%} of the cells observed{refined}{_filled(result)}"),
        *section(rows_words(result), result["observed"], of=OF[result["cells"]]),
    ]
    if result["simulated"]:
        holes = "the same holes" if result["cells"] == "observed" else "the holes that it makes"
        tables += section(f"simulated from the model, with {holes}", result["simulated"], of=OF[result["cells"]])
    if result["missing_given_observed"]:
        tables.append(_missing(result["missing_given_observed"]))
    if result["errors"]:
        tables.append(_errors(result))
    return [*tables, _notes(result)]


def _filled(result: Result) -> str:
    """Number of cells that were filled in, which a share rounds away."""
    filled, cells = result["filled"], result["cells_in_all"]
    return f": {filled:,} of {cells:,} cells filled in" if filled else ""


def _missing(score: Mapping[str, Any]) -> Text:
    text = Text(f"log p(x_mis | x_obs) = log p(x) - log p(x_obs) {_interval(score)} nats per datum", style="bold")
    if score.get("exact"):
        return text.append("\n  difference of two exact values\n", style="not bold dim")
    ends = [(word, score[side]) for word, side in (("from", "low"), ("to", "high")) if score.get(side)]
    from_to = [f"{word} {signed(end)}, {' less '.join(end['of'])}" for word, end in ends]
    lines = [*from_to, f"{signed(score)} by {score['estimator']}: {score['kind']}"]
    return text.append("".join(f"\n  {line}" for line in lines) + "\n", style="not bold dim")


def _interval(score: Mapping[str, Any]) -> str:
    """Where it lies: an interval that holds it, or one end of it, or a value that nothing bounds."""
    low, high = ((score.get(side) or {}).get("value") for side in ("low", "high"))
    if score.get("exact"):
        return f"= {signed(score)}"
    if low is not None and high is not None:
        crossed = f"about {number((low + high) / 2)}, ends cross by noise"
        return crossed if high < low else f"in [{number(low)}, {number(high)}]"
    if low is not None:
        return f">= {number(low)}"
    return f"about {signed(score)}" if high is None else f"<= {number(high)}"


def _errors(result: Result) -> RenderableType:
    """Scores of the draws first: they ask for the distribution, and RMSE for its mean."""
    first = next(iter(result["errors"].values()))
    binary = "error_rate" in first
    left_out = ("coverage_50", "coverage_90", "nrmse") if binary else ("rmse",)
    shown = {name: label for name, label in SCORES.items() if name in first and name not in left_out}
    unit = "" if binary else ", in s.d. of the column"
    table = new_table(f"hidden cells against the truth{unit} (± s.e. over the data)", padding=NARROW)
    table.add_column("completion", no_wrap=True)
    for label in shown.values():
        table.add_column(label, justify="right", no_wrap=True)
    for name, scores in result["errors"].items():
        cells = [_score(scores.get(key), key) for key in shown]
        table.add_row(name, *cells, style=None if name in OURS else "dim")
    held = "" if binary else " In 50% and 90%: cells within that interval of the draws."
    said = "Energy score and CRPS are least for the distribution of the truth, RMSE for its mean."
    return Group(table, Text(f"  {said}{held}\n", style="dim"))


def _score(score: Mapping[str, Any] | None, key: str) -> str:
    if score is None or score["value"] is None:
        return ""
    if key in SHARES:
        return f"{score['value']:.{SHARES[key]}%}"
    return signed(score)


def _notes(result: Result) -> Text:
    doubts = [*result["warnings"], *result.get("limits", [])]
    text = Text("".join(f"? {doubt}\n" for doubt in doubts), style="yellow")
    for line in [*(f"skipped: {skipped}\n" for skipped in result["skipped"]), f"{result['seconds']:.1f} s"]:
        text.append(line, style="not yellow dim")
    return text
