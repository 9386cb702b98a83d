"""Cells and heads of tables as words and sort keys, for the terminal and for the page alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np

from taut.report.numbers import number
from taut.report.rank.candidates import Candidate, Pick, ScoreSet, Source
from taut.report.rank.ranking import ELBO, GAP_LOW, LOG_PX
from taut.report.rank.sentences import bracket_words, label
from taut.report.rank.significance import moments
from taut.report.read.runs import Names
from taut.report.read.scores import Bracket, Score
from taut.report.tables.training import LOW_ESS

MARKS = {"first": "●", "tied": "○"}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: What it says.
        sort: What it is sorted by, a number or a text; None at the end.
        note: Said in small letters behind it.
        mark: ``first`` or ``tied`` where it leads its column.
        title: Said when one points at it.
    """

    text: str = ""
    sort: float | str | None = None
    note: str = ""
    mark: str = ""
    title: str = ""


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Args:
        label: Its name; of a score with the split in front, ``test: ELBO``.
        title: What it means.
        numeric: Whether it holds numbers.
        terminal: Its rank on a terminal: 1 is always shown, higher ones where there is room, 0 on the page alone.
    """

    label: str
    title: str = ""
    numeric: bool = False
    terminal: int = 0


@dataclass(frozen=True)
class Row:
    """The cells of one run, or of the runs of one setting, by their places in the report."""

    runs: Sequence[int]
    cells: Sequence[Cell]


def word_cell(value: str) -> Cell:
    """A word of the command line, sorted as a number if it is one."""
    number_value = as_number(value)
    return Cell(value, value if number_value is None else number_value)


def as_number(value: str) -> float | None:
    """The number that a word is, or ``None``."""
    try:
        return float(value)
    except ValueError:
        return None


def score_cell(score: Score | None, mark: str = "", digits: int = 3) -> Cell:
    """A score and its error over the data."""
    if score is None:
        return Cell()
    return Cell(number(score.value, digits), score.value, plus_minus(score.error, digits), mark)


def plain_cell(score: Score | None, digits: int) -> Cell:
    """A score without its error."""
    return Cell() if score is None else Cell(number(score.value, digits), score.value)


def seconds_cell(seconds: float | None) -> Cell:
    """A time."""
    return Cell() if seconds is None else Cell(f"{seconds:,.0f}", seconds)


def bound_cell(value: float | None, k: int | None, error: str = "") -> Cell:
    """A bound at a k of its own: bounds of different k are sorted by k first, never against one another."""
    if value is None:
        return Cell()
    note = " ".join(part for part in (error, f"k={k}" if k else "") if part)
    # digits of fixed width sort as text by k, then by value; + 1e9 keeps negative values in order
    return Cell(number(value), f"{k or 0:012d} {value + 1e9:024.9f}", note)


def bracket_cell(bracket: Bracket | None, mark: str = "", doubt: str = "") -> Cell:
    """A point, an interval or a lower end, with the error over the data where there is one end."""
    if bracket is None:
        return Cell()
    words, ends = bracket_words(bracket), [bracket.low, *([bracket.high] if bracket.high else [])]
    doubt = doubt or "; ".join(dict.fromkeys(reason for end in ends for reason in end.reliability_warnings))
    words = words if not doubt or words.endswith("?") else f"{words} ?"
    note = plus_minus(bracket.low.error, 3) if bracket.high is None else ""
    return Cell(words, bracket.low.value, note, mark, doubt)


def void_cell(sentence: str) -> Cell:
    """Cell in the place of a score that is void."""
    return Cell("void", title=sentence)


def criterion_cell(value: float | None, mark: str = "") -> Cell:
    """An information criterion."""
    return Cell() if value is None else Cell(f"{value:,.1f}", value, mark=mark)


def plus_minus(error: float | None, digits: int) -> str:
    """An error as it stands behind its value."""
    return "" if error is None else f"± {number(error, digits)}"


def measured(scores: ScoreSet, given: Sequence[str]) -> list[Column]:
    """Heads of the scores, each with the split that it is of.

    Args:
        scores: A set.
        given: Information criteria that have a column.
    """
    split, test = scores.split, scores.source == "test"
    fitted = [
        Column(f"train: {name.upper()}", f"{name.upper()} of the training rows, lower is better", True, 2 + place)
        for place, name in enumerate(given)
    ]
    scored = [
        head if head.label in WITHOUT_SPLIT else replace(head, label=f"{split}: {head.label}")
        for head in (TESTED if test else EVALUATED)
    ]
    first = [Column("validation: bound at k", "the best of all epochs, nats; sorted within each k", True, 2)]
    return [*first, *scored, *fitted] if test else scored


TESTED = (
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, 1),
    Column("bound at k", "bound at the k of training, nats per datum; sorted within each k", True),
    Column("log p(x)", "exact, or a bound from below", True, 1),
    Column("gap", "log p(x) minus ELBO; ≥ where log p(x) is bounded from below", True, 1),
    Column("KL", "of q(z|x) from p(z), nats", True),
    Column("active", "latents in use", True),
    Column("ESS", "effective number of the importance samples of log p(x), mean over the data", True),
    Column("seconds", "of training and test", True, 5),
)
EVALUATED = (
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, 1),
    Column("L_K", "importance-weighted bound, nats per datum", True),
    Column("log p(x)", "between the best lower and the best upper bound, nats per datum", True, 1),
    Column("bounds from", "estimators of the two ends"),
    Column("gap", "log p(x) minus ELBO: an interval, at least the lower end, or exact", True, 1),
    Column("± gap", "standard error of the lower end over the data", True),
    Column("amortisation", "what the encoder loses, on the rows it was taken apart for", True),
    Column("approximation", "what the family loses, on the same rows", True),
)
WITHOUT_SPLIT = ("bounds from", "seconds")


def grouped(heads: Sequence[Column]) -> list[Column]:
    """The heads of the table of settings: the same scores, as means over seeds."""
    first = [Column("setting", "what its runs have in common", terminal=1), Column("seeds", "how many", True, 1)]
    mean = "mean over the seeds and their standard deviation"
    return first + [replace(head, title=f"{mean}: {head.title}") for head in heads]


def named(words: Sequence[str], names: Names) -> list[Column]:
    """Heads of the run and of what the runs differ in."""
    numeric = {name: all(as_number(value) is not None for value in names.varied[name] if value) for name in words}
    heads = [Column(name.rpartition(".")[2], name, numeric=numeric[name]) for name in words]
    return [Column("run", "the folder of the run", terminal=1), *heads]


Marks = Mapping[str, str]


def measured_cells(candidate: Candidate, source: Source, marks: Marks, given: Sequence[str]) -> list[Cell]:
    """Every score of a run, or its mean over the seeds of a setting, in the order of ``taut.report.tables.cells``.

    Args:
        candidate: A run, or a setting.
        source: Whether it was tested or evaluated.
        marks: By column, ``first`` or ``tied``.
        given: Information criteria that have a column.
    """
    return _tested(candidate, marks, given) if source == "test" else _evaluated(candidate, marks)


def _tested(candidate: Candidate, marks: Marks, given: Sequence[str]) -> list[Cell]:
    entries = candidate.entries
    seconds = [entry.run.seconds for entry in entries if entry.run.seconds is not None]
    bound = _void(candidate, "bound")
    if bound is None:
        score = candidate.score(lambda scores: scores.bound)
        error = _spread(candidate, lambda scores: scores.bound) or plus_minus(score.error if score else None, 3)
        bound = bound_cell(score and score.value, entries[0].run.k, error)
    # the lowest of the seeds: a criterion is of the maximum, and a mean of it of nothing
    lowest = [[entry.scores.criteria[name] for entry in entries if name in entry.scores.criteria] for name in given]
    return [
        _validation(candidate),
        _score(candidate, "elbo", ELBO.score, marks.get("ELBO", "")),
        bound,
        _bracket(candidate, "log_px", marks.get("log p(x)", ""), _low_ess(candidate)),
        _bracket(candidate, "gap", marks.get("gap", ""), _low_ess(candidate)),
        _of_layers(candidate, "kl", _score(candidate, "kl", lambda scores: scores.others.get("kl"), digits=2), 2),
        _of_layers(
            candidate,
            "active_units",
            plain_cell(candidate.score(lambda scores: scores.others.get("active_units")), 0),
            0,
        ),
        plain_cell(candidate.score(lambda scores: scores.others.get("ess")), 1),
        seconds_cell(fmean(seconds) if seconds else None),
        *(
            criterion_cell(min(values, default=None), marks.get(name.upper(), ""))
            for name, values in zip(given, lowest, strict=True)
        ),
    ]


def _evaluated(candidate: Candidate, marks: Marks) -> list[Cell]:
    scores = candidate.entries[0].scores
    gap, split = scores.gap, scores.about["split"]
    sources = [gap.lower, *([gap.upper] if gap.high else [])] if gap else []
    reliability_warnings = [
        f"{label(name)}: {'; '.join(scores.others[name].reliability_warnings)}"
        for name in sources
        if name in scores.others
    ]
    reliability_warnings = [warning for warning in reliability_warnings if not warning.endswith(": ")]
    error = candidate.score(GAP_LOW.score)
    return [
        _score(candidate, "elbo", ELBO.score, marks.get("ELBO", "")),
        _score(candidate, "importance", lambda scores: scores.others.get("importance")),
        _bracket(candidate, "log_px", marks.get("log p(x)", ""), "; ".join(reliability_warnings)),
        Cell(" to ".join(map(label, sources)), " ".join(sources)),
        _bracket(candidate, "gap", marks.get("gap", ""), "; ".join(reliability_warnings)),
        Cell() if error is None or error.error is None else Cell(number(error.error), error.error),
        _void(candidate, f"apart {split}")
        or _score(candidate, "", lambda scores: scores.apart[split].amortisation if split in scores.apart else None),
        _void(candidate, f"apart {split}")
        or bracket_cell(
            candidate.bracket(lambda scores: scores.apart[split].approximation if split in scores.apart else None)
        ),
    ]


def _void(candidate: Candidate, name: str) -> Cell | None:
    """Cell in the place of a score that is void in any of the runs; None if it holds in all."""
    sentences = [entry.scores.voids[name] for entry in candidate.entries if name in entry.scores.voids]
    return void_cell(sentences[0]) if sentences else None


def _score(candidate: Candidate, name: str, pick: Pick, mark: str = "", digits: int = 3) -> Cell:
    void = _void(candidate, name)
    if void is not None:
        return void
    cell, spread = score_cell(candidate.score(pick), mark, digits), _spread(candidate, pick, digits)
    return replace(cell, note=spread) if spread else cell


def _of_layers(candidate: Candidate, name: str, cell: Cell, digits: int) -> Cell:
    """A cell that tells the terms of each layer of z, where it has several, when one points at it."""
    terms, layer = [], 1
    while (score := candidate.score(lambda scores, own=f"{name}_{layer}": scores.others.get(own))) is not None:
        terms.append(f"layer {layer}: {number(score.value, digits)}")
        layer += 1
    return replace(cell, title="; ".join(terms)) if terms and cell.text else cell


def _bracket(candidate: Candidate, name: Literal["log_px", "gap"], mark: str, doubt: str) -> Cell:
    void = _void(candidate, name)
    if void is not None:
        return void
    cell = bracket_cell(candidate.bracket(lambda scores: getattr(scores, name)), mark, doubt)
    spread = _spread(candidate, (LOG_PX if name == "log_px" else GAP_LOW).score)
    return replace(cell, note=spread) if spread else cell


def _validation(candidate: Candidate) -> Cell:
    values = [entries[0].run.validation for entries in candidate.by_seed.values()]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Cell()
    spread = f"sd {number(float(moments(np.array([known]))[1][0]))}" if len(known) > 1 else ""
    return bound_cell(fmean(known), candidate.entries[0].run.k, spread)


def _spread(candidate: Candidate, pick: Pick, digits: int = 3) -> str:
    """The standard deviation over the seeds; empty for a single one."""
    spread = candidate.spread(pick)
    return "" if spread is None else f"sd {number(spread, digits)}"


def _low_ess(candidate: Candidate) -> str:
    for entry in candidate.entries:
        ess, log_px = entry.scores.others.get("ess"), entry.scores.log_px
        if ess is not None and log_px is not None and not log_px.exact and ess.value < LOW_ESS:
            return (
                f"the effective size of its importance sample is {ess.value:.1f}: log p(x) may lie far above its bound"
            )
    return ""
