"""The tables of an evaluation: every estimator, the interval for the gap, its parts, and what not to trust."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from taut.functional.bits import Bits
from taut.report.numbers import DIGITS, ceiled, floored, interval, number
from taut.report.read.files import OF
from taut.report.read.scores import Scores, key_of
from taut.report.tables.table import NARROW, broken, new_table

WIDE = 104
MOST_DIMENSIONS = 10
LABELS: dict[str, str] = {
    "elbo": "ELBO",
    "u_k": "U_K",
    "ais": "AIS",
    "bdmc": "BDMC",
    "sumo": "SUMO",
    "tolerance_lower": "tolerance",
    "tolerance_upper": "tolerance",
}
METHODS = {"importance": "draws of q", "annealed": "chains annealed from q", "exact": "the exact value"}
LIMITS = {
    "k-hat": "k-hat above 0.7",
    "annealing steps": "the last number of annealing steps, k-hat still above 0.7",
    "budget": "the budget",
    "pilot": "a pilot that saw too small a variance",
}

Result = Mapping[str, Any]


def evaluation_tables(result: Result, width: int = 80) -> list[RenderableType]:
    """Everything of ``evaluation/result.json`` that is worth a look.

    Args:
        result: What an evaluation found.
        width: Columns of the terminal; from 104 on the largest weight and the 1/K extrapolation have one each.
    """
    wide = width >= WIDE
    tables: list[RenderableType] = [Text(result["name"], style="bold")]
    tables += section(rows_words(result), result, of=_of(result), wide=wide)
    tables += _reported(result)
    tables += _tolerance(result["tolerance"], result["n"], _of(result)) if result.get("tolerance") else []
    tables += _information(result["information"]) if result["information"] else []
    if result["simulated"]:
        # of those cells are missing only where the model hides them itself
        of = _of(result) if result.get("cells") == "observed and hidden" else "p(x)"
        tables += section("simulated from the model", result["simulated"], of=of, wide=wide)
    if result["apart"]:
        tables.append(_apart(result))
    return [*tables, *_notes(result)]


def _reported(result: Result) -> list[RenderableType]:
    """Where the number lies that another program reports, if one was given."""
    if not result.get("reported"):
        return []
    how = f"both of {_these(result['n'])}; a bound counts with twice its Monte Carlo error"
    return [Text(f"{result['reported']['words']}.", style="bold"), _aside(how), Text("")]


def rows_words(result: Result) -> str:
    """Which data these are; of those that were handed over in Python nobody knows more."""
    split = result["split"]
    if split == "data":
        return "data"
    if split == "table":
        return "table" if result["held_out"] else "table of the run, with the rows that it was trained on"
    # a warning says that any of them may have been trained on
    if result.get("other_data"):
        return f"{split} split of other data than those of the run"
    same = "" if result["held_out"] or split == "train" else ", the training rows"
    return f"{split} split{same}"


def signed(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Value and standard error over the data."""
    if score is None or score["value"] is None or score["value"] != score["value"]:
        return ""
    error = score.get("standard_error")
    tail = f" ± {error:.{digits}f}" if error is not None and error == error else ""
    return f"{number(score['value'], digits)}{tail}"


def interval_words(gap: Mapping[str, Any], digits: int = DIGITS) -> str:
    """The gap in words, see :func:`taut.report.numbers.interval`; void as the ELBO."""
    high = gap["high"]
    if gap.get("void"):
        return "is void"
    return interval(gap["low"]["value"], None if high is None else high["value"], exact=gap["exact"], digits=digits)


def _of(result: Result) -> str:
    return OF.get(result.get("cells", ""), "p(x)")


def section(what: str, result: Result, *, of: str = "p(x)", wide: bool = False) -> list[RenderableType]:
    """Table, gap and doubts of one set of data."""
    lines: list[RenderableType] = [
        _evidence(f"{what}, {_data(result['n'])}: log {of} in nats per datum", result, wide=wide)
    ]
    lines += [*_gap_lines(result["gap"], of), *_bits(result), *_certificate(result, of)]
    lines += _remarks("void:", result.get("void", []), "bold red")
    return [*lines, *_remarks("?", result["warnings"], "yellow"), Text("")]


def _evidence(title: str, result: Result, *, wide: bool) -> Table:
    table = new_table(title, padding=NARROW)
    table.add_column("estimator")
    table.add_column("kind")
    further = ("max weight", "1/K limit") if wide else ()
    for name in ("K", "value", "s.e.", "MC s.e.", "ESS", "k-hat", "bias", *further):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="yellow")
    for name, score in result["evidence"].items():
        table.add_row(*_row(name, score, wide=wide), style="bold" if name in _best(result["gap"]) else None)
    return table


def _row(name: str, score: Mapping[str, Any], *, wide: bool) -> list[str]:
    def median(diagnostic: str, digits: int) -> str:
        return number(score["diagnostics"].get(diagnostic, {}).get("median"), digits)

    def mean(diagnostic: str) -> str:
        return number(score["diagnostics"].get(diagnostic, {}).get("mean")) if score["kind"] != "upper" else ""

    return [
        LABELS.get(name, name),
        score["kind"],
        "" if score["k"] is None else f"{score['k']:,}",
        "void" if score.get("void") else number(score["value"]) or "none",
        number(score["standard_error"]),
        number(score["monte_carlo_error"]) if score["kind"] != "exact" else "",
        median("ess", 1),
        median("khat", 2),
        mean("bias"),
        *([median("max_weight", 3), mean("extrapolated")] if wide else []),
        "?" if score["doubts"] else "",
    ]


def _data(n: int) -> str:
    return "1 datum" if n == 1 else f"{n:,} data"


def _these(n: int) -> str:
    return "this datum" if n == 1 else f"these {n:,} data"


def _best(gap: Mapping[str, Any]) -> tuple[str | None, ...]:
    return gap["lower"], gap["upper"]


def _gap_lines(gap: Mapping[str, Any], of: str) -> list[RenderableType]:
    ends = [gap["low"]] if gap["exact"] or gap["high"] is None else [gap["low"], gap["high"]]
    names = [gap["lower"]] if len(ends) == 1 else [gap["lower"], gap["upper"]]
    source = " to ".join(LABELS.get(str(name), str(name)) for name in names)
    over, fixed = (" and ".join(number(end[part]) or "unknown" for end in ends) for part in _ERRORS)
    text = Text(f"gap = log {of} - ELBO {interval_words(gap)}", style="bold")
    return [text, _aside(f"from {source}; s.e. over the data {over}, at fixed data {fixed}")]


def _bits(result: Result) -> list[RenderableType]:
    """Log p(x) in bits per dimension, where the data are levels or counts."""
    bits, gap = result.get("bits"), result["gap"]
    lower, upper = (result["evidence"].get(gap[side], {}).get("value") for side in ("lower", "upper"))
    if not bits or gap.get("void") or lower is None:
        return []
    unit = Bits(**bits)
    high = ceiled(unit.of_nats(lower))
    if gap["exact"] and unit.levels == 1:
        return [_aside(f"{high} bits per dimension, of {unit.of}")]
    if upper is not None and unit.levels == 1 and upper < lower:
        return [_aside(f"about {number(unit.of_nats((lower + upper) / 2))} bits per dimension, {unit.of}")]
    # an upper bound of a density's log bounds no mass
    low = "" if upper is None or unit.levels > 1 else f"at least {floored(unit.of_nats(upper))} and "
    return [_aside(f"{low}at most {high} bits per dimension, {unit.of}")]


_ERRORS = ("standard_error", "monte_carlo_error")


def _certificate(result: Result, of: str) -> list[RenderableType]:
    """Certified bounds for the data of a section; none where log p(x) is known, or nothing can be certified."""
    if result["gap"]["exact"]:
        return []
    sides = [(result["certificate"], "above", floored), (result["upper_certificate"], "below", ceiled)]
    parts = [
        f"{side} {rounded(bound['value'])} with {bound['confidence']:.0%} confidence ({_names(bound['estimators'])})"
        for bound, side, rounded in sides
        if bound is not None
    ]
    if not parts:
        return []
    text = f"certified: the mean log {of} of {_these(result['n'])} is {' and '.join(parts)}, however bad the weights"
    return [Text(text, style="dim")]


def _tolerance(found: Mapping[str, Any], n: int, of: str) -> list[RenderableType]:
    """Tell whether the bracket is as narrow as asked, how many data got there, what limits the others, and the cost."""
    what = f"log {of} of every datum" if found["per_datum"] else f"the mean log {of}"
    reached = "reached" if found["reached"] else "not reached"
    title = Text(f"tolerance of {found['tolerance']:g} nats for {what}: {reached}", style="bold")
    low, high = floored(found["low"]), ceiled(found["high"])
    there = round(found["share"] * n)
    rest = "".join(f"; {count:,} limited by {LIMITS.get(name, name)}" for name, count in found["limits"].items())
    methods = ", ".join(f"{METHODS.get(name, name)} for {count:,}" for name, count in found["methods"].items())
    lines = [
        f"the mean log {of} of {_these(n)} lies in [{low}, {high}] with {found['confidence']:.0%} confidence, "
        f"{number(found['value'])} ± {number(found['half_width'])}, unless the draws miss a mode",
        f"{there:,} of {_data(n)} got there{rest}",
        f"{methods}; {found['draws']:,.0f} draws and {found['evaluations']:,.0f} evaluations of p(x, z) per datum, "
        "pilots, searches and gradients included",
    ]
    return [title, *map(_aside, lines), Text("")]


def _information(information: Mapping[str, Any]) -> list[RenderableType]:
    """The KL taken apart, and by dimension from the largest on."""
    mutual, marginal = information["mutual_information"], information["marginal_kl"]
    signs = (">=", "<=") if mutual["at_least"] else ("=", "=")
    kl, mi, rest = (number(part["value"]) for part in (information["kl"], mutual, marginal))
    errors = ", ".join(number(part["monte_carlo_error"]) for part in (information["kl"], mutual, marginal))
    capped = ", within a nat of its cap, log n" if mutual["at_least"] else ""
    lines = [
        f"I(x; z) {signs[0]} {mi}{capped}; KL(q(z) || p(z)) {signs[1]} {rest}",
        f"over {_data(information['n'])}, MC s.e. {errors}",
        *_by_layer(information.get("by_layer") or []),
        *_by_dimension(information["kl_by_dimension"] or []),
    ]
    title = Text(f"KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)) = {kl}", style="bold")
    return [title, *map(_aside, lines), Text("")]


def _by_layer(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The terms of the KL that the layers of z have; none where it has no layers."""
    return [
        f"layer {part['layer']}: KL {number(part['kl']['value'])}, MC s.e. {number(part['kl']['monte_carlo_error'])}; "
        f"{part['active_units']} of {part['units']} units active"
        for part in parts
    ]


def _by_dimension(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    if not parts:
        return []
    first = ", ".join(f"z{part['dimension']}={number(part['value'], 2)}" for part in parts[:MOST_DIMENSIONS])
    others = parts[MOST_DIMENSIONS:]
    more = f" and {len(others)} more of at most {number(others[0]['value'], 2)}" if others else ""
    return [f"KL by dimension: {first}{more}"]


def _aside(line: str) -> Padding:
    """A line below another, its continuations as far in as itself."""
    return Padding(Text(line, style="dim"), (0, 0, 0, 2))


def _names(estimators: Sequence[str]) -> str:
    """Labels of estimators, those of several as one certificate."""
    labels = [LABELS.get(name, name) for name in estimators]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]} together"


def _apart(result: Result) -> Table:
    table = new_table("the gap taken apart, nats per datum (± s.e. over the data)", padding=NARROW)
    table.add_column("split")
    table.add_column("n", justify="right")
    for name in ("ELBO", "best q's", "amortisation", "approximation", "settled"):
        table.add_column(name, justify="right")
    for split, parts in result["apart"].items():
        if parts.get("void"):
            table.add_row(split, f"{parts['n']:,}", *["void"] * 4)
            continue
        approximation = {"exact": parts["exact"], **parts["approximation"]}
        words = interval_words(approximation)
        values = [number(parts[name]["value"]) for name in ("elbo", "best")]
        table.add_row(
            split, f"{parts['n']:,}", *values, signed(parts["amortisation"]), words, f"{parts['settled']:.0%}"
        )
    return table


def _notes(result: Result) -> list[RenderableType]:
    warnings = _remarks("?", [*result["gap_warnings"], *result.get("limits", [])], "yellow")
    return [*warnings, *_remarks("skipped:", result["skipped"], "dim"), Text(f"{result['seconds']:.1f} s", style="dim")]


def _remarks(mark: str, sentences: Sequence[str], style: str) -> list[RenderableType]:
    """Sentences behind a mark, with nothing below it; none if there are none."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, style=style)
    table.add_column(style=style)
    for sentence in sentences:
        table.add_row(mark, Text(sentence))
    return [table] if sentences else []


def comparable(results: Sequence[Result]) -> dict[tuple[str, ...], list[Result]]:
    """Evaluations by what they were scored on and how: rows, columns, unit of p(x) and settings of every estimator.

    Scores of different binarisations, or a density and a mass of the same pixels, differ by nats for the same model,
    and bounds of different K by what K is worth, so they never share a column.
    """
    groups = defaultdict(list)
    for result in results:
        groups[tuple(key_of(result).values())].append(result)
    return dict(groups)


def comparison_tables(results: Sequence[Result], labels: Sequence[str]) -> list[RenderableType]:
    """One table for each group of comparable evaluations, each with what is void and what its scores depend on.

    Args:
        results: The evaluations.
        labels: What their runs are called.
    """
    # by identity: a result is a dictionary, which cannot be hashed
    called = {id(result): label for result, label in zip(results, labels, strict=True)}
    tables = []
    for group in comparable(results).values():
        names = [called[id(result)] for result in group]
        tables += [_table(group, names), _comparison_notes(group, names)]
    return tables


def _table(results: Sequence[Result], labels: Sequence[str]) -> Table:
    first = results[0]
    rows = "" if first.get("held_out", True) else " (training rows)"
    if first.get("other_data"):
        rows = " of other data than those of the runs"
    title = (
        f"{first['split']} split{rows} of {first['data']}, binarisation {first['binarisation']}: log p(x) of "
        f"{first['n']:,} data, K = {first['k']:,}, nats"
    )
    likelihoods, precisions = (
        " or ".join(sorted({one[name] for one in results})) for name in ("likelihood", "precision")
    )
    how = "; ".join([f"{likelihoods} likelihood", precisions, *_settings(first)])
    title = Text(title, style="bold").append(f"\n{how}", style="not bold dim")
    table = new_table(title)
    estimators = list(dict.fromkeys(name for result in results for name in result["evidence"]))
    table.add_column("run", overflow="fold")
    for name in estimators:
        table.add_column(LABELS.get(name) or name, justify="right", no_wrap=True)
    table.add_column("gap", justify="right", no_wrap=True)
    if any(result["apart"] for result in results):
        table.add_column("amortisation", justify="right")
    for label, result in zip(labels, results, strict=True):
        scores = Scores.evaluated(result, "")
        cells = _comparison_row(label, result, scores.voids if scores else {}, estimators)
        table.add_row(*map(Text, cells[: len(table.columns)]))
    return table


def _comparison_notes(results: Sequence[Result], labels: Sequence[str]) -> Text:
    known = [
        (label, scores)
        for label, result in zip(labels, results, strict=True)
        if (scores := Scores.evaluated(result, ""))
    ]
    lines = [(f"void: {run}: {sentence}\n", "bold red") for run, scores in known for sentence in scores.broken]
    lines += [(f"limit: {run}: {sentence}\n", "bold yellow") for run, scores in known for sentence in scores.limits]
    return Text.assemble(*lines)


def _settings(result: Result) -> list[str]:
    words_of = {
        name: ", ".join(f"{key}={value}" for key, value in settings.items())
        for name, settings in result["estimators"].items()
    }
    return [f"{LABELS.get(name, name)} {words}" for name, words in words_of.items() if words]


def _comparison_row(label: str, result: Result, voids: Mapping[str, str], estimators: Sequence[str]) -> list[str]:
    cells = [broken(label)]
    for name in estimators:
        score = result["evidence"].get(name)
        cells.append("" if score is None else "void" if name in voids else _value(score))
    cells.append(_gap(result, voids))
    apart = result["apart"].get(result["split"]) if result["apart"] else None
    void = f"apart {result['split']}" in voids
    cells.append("" if apart is None else "void" if void else signed(apart["amortisation"], 2))
    return cells


def _gap(result: Result, voids: Mapping[str, str]) -> str:
    if "gap" in voids:
        return "void"
    gap = result["gap"]
    return interval_words(gap | {"high": None} if gap["upper"] in voids else gap, 2) if gap else ""


def _value(score: Mapping[str, Any]) -> str:
    sign = {"lower": "≥ ", "upper": "≤ ", "estimate": "~ ", "exact": ""}[score["kind"]]
    doubt = " ?" if score["doubts"] else ""
    return f"{sign}{number(score['value'], 2)}{doubt}"
