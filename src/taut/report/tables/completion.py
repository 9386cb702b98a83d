"""The tables of a completion: log p(x_obs) by every estimator, and how far the completions are from the truth."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taut.report.read.files import OF
from taut.report.tables.evaluation import section, signed
from taut.report.tables.table import NARROW, new_table

Result = Mapping[str, Any]
OURS = ("mean", "most probable", "one draw")
MEANINGS = {
    "mean": "least squared error",
    "most probable": "of each cell by itself",
    "one draw": "what data look like",
    "mean imputation": "of the column",
    "nearest neighbour": "in the training rows",
}


def completion_tables(result: Result) -> list[RenderableType]:
    """Everything of a completion's ``result.json`` that is worth a look."""
    same = "" if result["held_out"] or result["split"] == "train" else ", the training rows"
    hidden = "holes of the data" if result["mask"] == "from_data" else f"{result['mask'].replace('_', ' ')} hidden"
    refined = ", q refined for each datum" if result["refined"] else ""
    tables: list[RenderableType] = [
        Text(result["name"], style="bold"),
        Text(f"{hidden}, {result['observed_share']:.0%} of the cells observed{refined}"),
        *section(f"{result['split']}{same}", result["observed"], of=OF[result["cells"]]),
    ]
    if result["simulated"]:
        holes = "the same holes" if result["cells"] == "observed" else "the holes that it makes"
        tables += section(f"simulated from the model, with {holes}", result["simulated"], of=OF[result["cells"]])
    if result["missing_given_observed"]:
        tables.append(_missing(result["missing_given_observed"]))
    if result["errors"]:
        tables.append(_errors(result))
    return [*tables, _notes(result)]


def _missing(score: Mapping[str, Any]) -> Text:
    text = Text(f"log p(x_mis | x_obs) = log p(x) - log p(x_obs) = {signed(score)} nats per datum", style="bold")
    return text.append(f"\n  {score['kind']} ({score['estimator']})\n", style="not bold dim")


def _errors(result: Result) -> Table:
    scores = {"RMSE": "rmse", "error rate": "error_rate"}
    if "error_rate" not in result["errors"]["mean"]:
        scores = {"RMSE in s.d. of the column": "nrmse"}
    table = new_table("hidden cells against the truth (± s.e. over the data)", padding=NARROW)
    table.add_column("completion", no_wrap=True)
    for label in scores:
        table.add_column(label, justify="right", no_wrap=True)
    table.add_column("", style="dim")
    for name, score in result["errors"].items():
        shown = [signed(score[key], 4) for key in scores.values()]
        table.add_row(name, *shown, MEANINGS[name], style=None if name in OURS else "dim")
    return table


def _notes(result: Result) -> Text:
    text = Text("".join(f"? {warning}\n" for warning in result["warnings"]), style="yellow")
    for line in [*(f"skipped: {skipped}\n" for skipped in result["skipped"]), f"{result['seconds']:.1f} s"]:
        text.append(line, style="not yellow dim")
    return text
