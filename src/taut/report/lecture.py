"""The table of the lecture on missing pixels."""

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from taut.report.evaluation import new_table, number, signed

MEANINGS = {
    "uniform": "every way to fill the pixels is equally likely",
    "learned q": "a network looks at the other pixels",
    "posterior": "the model's own: every weight is p(x_obs)",
}


def lecture_tables(result: Mapping[str, Any]) -> list[RenderableType]:
    """What every way to choose completions estimates, and how far below the truth it lies."""
    count, n, k = f"{2 ** result['pixels']:,}", result["n"], f"{result['k']:,}"
    heading = Text(f"{result['pixels']} of {result['cells']} pixels hidden in {n} images: {count} completions each")
    heading.stylize("bold")
    table = new_table("K completions drawn from ... (nats per image, ± s.e. over repetitions)")
    table.add_column("", no_wrap=True)
    table.add_column("gap = KL", justify="right")
    table.add_column("L_1", justify="right", no_wrap=True)
    table.add_column(f"L_{k}", justify="right", no_wrap=True)
    table.add_column("p̂ / p", justify="right", no_wrap=True)
    table.add_column("ESS / K", justify="right")
    for name, one in result["methods"].items():
        ends = [signed(one[end]) for end in ("first", "last")]
        table.add_row(name, number(one["gap"]), *ends, signed(one["ratio"]), f"{one['ess']:.1%}")
    exact = Text(
        f"log p(x_obs) = {number(result['summed'])}, the sum over all completions; closed form "
        f"{number(result['exact'])}, largest difference {result['difference']:.1e}\n"
    )
    notes = "\n".join(f"{name}: {MEANINGS[name]}" for name in result["methods"])
    return [heading, exact, table, Text(f"{notes}\nL_K is the mean log-estimate: below log p(x_obs) by Jensen", "dim")]
