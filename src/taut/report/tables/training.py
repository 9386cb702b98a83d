"""Table of a training and how it ended: scores, whether it converged, and the information criteria."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from taut.report.read.files import OF
from taut.report.tables.table import new_table

CRITERIA = {"bic": "BIC", "aic": "AIC", "icl": "ICL"}

Result = Mapping[str, Any]


def fitted(result: Result) -> list[str]:
    """Lines on the training rows; none for a run that has neither criteria nor a tolerance."""
    lines, criteria, converged = [], result.get("criteria"), result.get("converged")
    if criteria:
        known = [f"{name} {criteria[key]:,.3f}" for key, name in CRITERIA.items() if criteria[key] is not None]
        lines = [
            f"{criteria['n']:,} training rows: log p(x) {criteria['log_likelihood']:,.3f} in all, "
            f"{criteria['parameters']:,} free parameters",
            f"{', '.join(known)} (lower is better)",
        ]
    if converged is not None:
        of = "" if criteria else ", on the batches it was trained on"
        lines.append(f"converged: {'yes' if converged else 'no'}, {result['epochs']:,} epochs{of}")
    return lines


def unfinished(result: Result) -> list[str]:
    """The warning for training that ended before it converged."""
    if result.get("converged") is not False:
        return []
    presumed = ", and the criteria presume a maximum" if result.get("criteria") else ""
    return [f"EM has not converged{presumed}; raise trainer.max_epochs and resume the run."]


KIND = {"exact": "exact", "lower": "lower bound", "upper": "upper bound", "estimate": "estimate"}
LOW_ESS = 1.5

OBJECTIVES = {"iwae": "iwae", "mog": "em", "fa": "em", "ppca": "em"}
"""Objectives that models choose themselves; the others take the ELBO."""

Score = Mapping[str, Any]


def score_table(result: Result) -> Table:
    """The scores of the test split with their errors, at most 80 columns wide.

    Args:
        result: What a run writes to ``result.json``: ``name``, ``data``, ``binarisation``, ``cells`` (``all`` or
            ``observed``), ``k``, ``k_test``, ``n``, ``split``, ``seconds`` (``fit``, ``test``) and ``scores``: name to
            ``value``, ``standard_error`` (over data), ``monte_carlo_error`` (at fixed data, or None), ``kind``, ``k``.

    Returns:
        A table for ``rich.print``.
    """
    title = Text(f"{result['name']}: {result['split']} split, {_of(result)}nats per datum", style="bold")
    table = new_table(title, caption=caption(result), caption_justify="left", caption_style="")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("s.e. (data)", justify="right")
    table.add_column("s.e. (MC)", justify="right")
    table.add_column("what it is", style="dim")
    for name, label, meaning in _rows(result["scores"]):
        if result["scores"].get(name, {}).get("value") is not None:
            _add(table, name, label, meaning, result)
    if not table.row_count:
        table.add_row("none", "", "", "", "nothing was tested")
    return table


def _rows(scores: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Names, labels and meanings of all scores; behind each those of the layers of z, where it has several."""
    for name, (label, meaning) in ROWS.items():
        yield name, label, meaning
        layer = 1
        while f"{name}_{layer}" in scores:
            yield f"{name}_{layer}", f"  layer {layer}", meaning
            layer += 1


def _of(result: Result) -> str:
    return f"{cells} cells, " if (cells := result.get("cells", "all")) in OF else ""


def caption(result: Result) -> Text:
    """Source of the numbers, the seconds, and a warning line for each reason to distrust them."""
    seconds = result["seconds"]
    # a test of no measurable time must not divide by 0
    rate = f" ({result['n'] / max(seconds['test'], 1e-9):,.0f} rows/s)" if result["n"] else ""
    data = f"{result['data']}, binarisation {result['binarisation']}"
    same = "" if result.get("held_out", True) else ", the training rows"
    lines = [
        f"{result['split']} split of {data}: {result['n']:,} data{same}",
        *result.get("partial", []),
        f"fit {seconds['fit']:.1f} s, test {seconds['test']:.1f} s{rate}",
        *fitted(result),
    ]
    text = Text("\n".join(lines), style="dim")
    for warning in warnings(result):
        text.append(f"\nWarning: {warning}", style="bold yellow")
    return text


def warnings(result: Result) -> list[str]:
    """Reasons not to trust the scores, in full sentences; none is the good case."""
    return [*result.get("warnings", []), *result.get("limits", []), *unfinished(result)]


def _add(table: Table, name: str, label: str, meaning: str, result: Result) -> None:
    score = result["scores"][name]
    sign = ">= " if name == "gap" and score.get("kind") != "exact" else ""
    words = meaning.format(
        kind=KIND.get(score.get("kind"), ""), k=score.get("k"), k_test=result["k_test"], of=score.get("of")
    )
    if name == "log_px" and score["kind"] != "exact":
        words += f", K = {score['k']}"
    if name == "bound" and score.get("kind") == "estimate":
        words = "trained, an estimate"
    objective = result.get("objective")
    if name == "bound" and objective and objective != OBJECTIVES.get(result.get("model", ""), "elbo"):
        words = words.replace("trained", f"trained: {objective}")
    if (of := OF.get(result.get("cells", ""))) is not None:
        label, words = label.replace("p(x)", of), words.replace("p(x)", of)
    table.add_row(
        label.format(k=result["k"]),
        sign + _cell(score["value"], name),
        _cell(score.get("standard_error"), name),
        _cell(score.get("monte_carlo_error") or None, name),
        Text(words).append(" ?" if score.get("doubts") else "", style="not dim yellow"),
        style="bold" if name in ("bound", "gap") else None,
    )


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return ""
    if abs(value) >= 1e7:
        return f"{value:.3e}"
    digits = 0 if name.startswith("active_units") else 2 if abs(value) >= 1e5 else 3
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus zero


ROWS = {
    "elbo": ("ELBO", "lower bound, K = 1"),
    "bound": ("bound, k = {k}", "what was trained"),
    "log_px": ("log p(x)", "{kind}"),
    "bits": ("bits per dim", "{kind}, {of}"),
    "gap": ("gap", "log p(x) - ELBO"),
    "kl": ("KL", "q(z|x) from p(z)"),
    "reconstruction": ("reconstruction", "E log p(x|z)"),
    "active_units": ("active units", "latents in use"),
    "ess": ("ESS", "of {k_test} samples"),
    "khat": ("k-hat", "median, trusted to 0.7"),
}
