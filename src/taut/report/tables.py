"""The tables of a report as words and sort keys, for the terminal and for the page alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taut.report.answers import Answer, answers, best_validations, bracket_words, label
from taut.report.evaluation import number
from taut.report.names import Names, names_of, shared_words
from taut.report.ranking import Entry
from taut.report.runs import Run
from taut.report.scores import Bracket, Score
from taut.report.sets import ScoreSet
from taut.report.table import LOW_ESS

MOST_WORDS = 8
"""Columns for what the runs differ in."""
SAID = ("data", "binarisation", "likelihood", "mask")
"""What the heading of a set says."""
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
    """The head of a column: its name, what it means, whether it holds numbers, whether a terminal has room for it."""

    label: str
    title: str = ""
    numeric: bool = False
    narrow: bool = False


@dataclass(frozen=True)
class Row:
    """The cells of one run, by its place in the report."""

    run: int
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Section:
    """One set of comparable scores, ready to be shown.

    Args:
        scores: The set.
        names: What its runs are called there.
        runs: The place of each of its entries in the report.
        details: How it was scored, and what its runs alone have in common.
        answers: The answer first.
        validations: The best validation bound at each k.
        columns: Heads of its table.
        rows: Its table.
        splits: Splits of the data for which a gap was taken apart.
    """

    scores: ScoreSet
    names: Names
    runs: Sequence[int]
    details: str
    answers: Sequence[Answer]
    validations: Sequence[tuple[str, str, str]]
    columns: Sequence[Column]
    rows: Sequence[Row]
    splits: Sequence[str]


def section(scores: ScoreSet, place: Mapping[int, int], all_names: Names) -> Section:
    """Everything that is said of one set of comparable scores.

    Args:
        scores: The set.
        place: For each run, by its identity, its place in the report.
        all_names: What the runs of the whole report are called.
    """
    entries = list(scores.entries)
    names = names_of([one.run for one in entries])
    called = {id(one): name for one, name in zip(entries, names.labels, strict=True)}
    found = answers(scores, lambda entry: called[id(entry)])
    validations = best_validations(scores, lambda entry: called[id(entry)]) if scores.source == "test" else []
    words = [name for name in names.varied][:MOST_WORDS]
    columns = [
        Column("run", "the folder of the run", narrow=True),
        *(Column(name.rpartition(".")[2], name, numeric=_numeric(names.varied[name])) for name in words),
        *(TESTED if scores.source == "test" else EVALUATED),
    ]
    marks = _marks(found)
    rows = []
    for index, entry in enumerate(entries):
        given = [_word(names.varied[name][index]) for name in words]
        name = Cell(
            called[id(entry)], entry.run.name, note=entry.run.name if called[id(entry)] != entry.run.name else ""
        )
        made = _tested if scores.source == "test" else _evaluated
        rows.append(Row(place[id(entry.run)], [name, *given, *made(entry, marks.get(id(entry), {}))]))
    splits = list(dict.fromkeys(split for one in entries for split in one.scores.apart))
    runs = [row.run for row in rows]
    shared = shared_words(all_names, runs, without=SAID)[:MOST_WORDS]
    details = "; ".join([scores.details, *([f"{' '.join(shared)} throughout"] if shared else [])])
    return Section(scores, names, runs, details, found, validations, columns, rows, splits)


TESTED = (
    Column("val bound", "best validation bound at the k of training, nats; sorted within each k", True, True),
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, True),
    Column("bound at k", "bound at the k of training, nats per datum; sorted within each k", True),
    Column("log p(x)", "exact, or a bound from below", True, True),
    Column("gap", "log p(x) minus ELBO; ≥ where log p(x) is bounded from below", True, True),
    Column("KL", "of q(z|x) from p(z), nats", True),
    Column("active", "latents in use", True),
    Column("ESS", "effective number of the importance samples of log p(x), mean over the data", True),
    Column("seconds", "of training and test", True, True),
)
EVALUATED = (
    Column("ELBO", "bound at K = 1, nats per datum ± standard error over the data", True, True),
    Column("L_K", "importance-weighted bound, nats per datum", True),
    Column("log p(x)", "between the best lower and the best upper bound, nats per datum", True, True),
    Column("bounds from", "estimators of the two ends"),
    Column("gap", "log p(x) minus ELBO: an interval, at least the lower end, or exact", True, True),
    Column("± gap", "standard error of the lower end over the data", True),
    Column("amortisation", "what the encoder loses, on the rows it was taken apart for", True),
    Column("approximation", "what the family loses, on the same rows", True),
)


def _tested(entry: Entry, marks: Mapping[str, str]) -> list[Cell]:
    run, scores = entry.run, entry.scores
    others = scores.others
    return [
        _at_k(run.validation, run.k),
        _score(scores.elbo, marks.get("ELBO", "")),
        _at_k(scores.bound and scores.bound.value, run.k, scores.bound and scores.bound.error),
        _bracket(scores.log_px, marks.get("log p(x)", ""), _low_ess(entry)),
        _bracket(scores.gap, marks.get("gap", ""), _low_ess(entry)),
        _score(others.get("kl"), digits=2),
        _plain(others.get("active_units"), 0),
        _plain(others.get("ess"), 1),
        Cell() if run.seconds is None else Cell(f"{run.seconds:,.0f}", run.seconds),
    ]


def _evaluated(entry: Entry, marks: Mapping[str, str]) -> list[Cell]:
    scores = entry.scores
    gap, apart = scores.gap, scores.apart.get(scores.about["split"])
    sources = [gap.lower, *([gap.upper] if gap.high else [])] if gap else []
    doubts = [f"{label(name)}: {'; '.join(scores.others[name].doubts)}" for name in sources if name in scores.others]
    doubts = [one for one in doubts if not one.endswith(": ")]
    error = gap.low.error if gap else None
    return [
        _score(scores.elbo, marks.get("ELBO", "")),
        _score(scores.others.get("importance")),
        _bracket(scores.log_px, marks.get("log p(x)", ""), "; ".join(doubts)),
        Cell(" to ".join(map(label, sources)), " ".join(sources)),
        _bracket(gap, marks.get("gap", ""), "; ".join(doubts)),
        Cell() if error is None else Cell(number(error), error),
        _score(apart.amortisation) if apart else Cell(),
        _bracket(apart.approximation) if apart else Cell(),
    ]


def _marks(found: Sequence[Answer]) -> dict[int, dict[str, str]]:
    """For each entry, the columns that it leads or cannot be told apart in."""
    columns = {"Highest log p(x)": "log p(x)", "Highest ELBO": "ELBO", "Tightest bound": "gap"}
    marks: dict[int, dict[str, str]] = {}
    for answer in found:
        if answer.verdict == "alone":
            continue
        for entry in answer.tied:
            marks.setdefault(id(entry), {})[columns[answer.question]] = "tied"
        marks.setdefault(id(answer.first), {})[columns[answer.question]] = "first"
    return marks


def _word(value: str) -> Cell:
    found = _number(value)
    return Cell(value, value if found is None else found)


def _numeric(values: Sequence[str]) -> bool:
    return all(_number(value) is not None for value in values if value)


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _score(score: Score | None, mark: str = "", digits: int = 3) -> Cell:
    if score is None:
        return Cell()
    return Cell(number(score.value, digits), score.value, _plus_minus(score.error, digits), mark)


def _plain(score: Score | None, digits: int) -> Cell:
    return Cell() if score is None else Cell(number(score.value, digits), score.value)


def _at_k(value: float | None, k: int | None, error: float | None = None) -> Cell:
    """A bound at a k of its own: bounds of different k are sorted by k first, never against one another."""
    if value is None:
        return Cell()
    note = " ".join(part for part in (_plus_minus(error, 3), f"k={k}" if k else "") if part)
    return Cell(number(value), f"{k or 0:012d} {value + 1e9:024.9f}", note)


def _bracket(bracket: Bracket | None, mark: str = "", doubt: str = "") -> Cell:
    if bracket is None:
        return Cell()
    words = bracket_words(bracket)
    words = words if not doubt or words.endswith("?") else f"{words} ?"
    note = _plus_minus(bracket.low.error, 3) if bracket.high is None else ""
    return Cell(words, bracket.low.value, note, mark, doubt)


def _plus_minus(error: float | None, digits: int) -> str:
    return "" if error is None else f"± {number(error, digits)}"


def _low_ess(entry: Entry) -> str:
    ess, log_px = entry.scores.others.get("ess"), entry.scores.log_px
    if ess is None or log_px is None or log_px.exact or ess.value >= LOW_ESS:
        return ""
    return f"of its importance samples about {ess.value:.1f} count: log p(x) may lie far above its bound"


def state_cells(run: Run) -> list[Cell]:
    """How far a run without scores has come: state, epochs, best validation bound so far, seconds, reason."""
    goal = run.config.get("trainer.max_epochs", "")
    epochs = "" if run.epochs is None else f"{run.epochs} of {goal}" if goal else str(run.epochs)
    bound = "" if run.validation is None else number(run.validation)
    return [
        Cell(run.state, run.state),
        Cell(epochs, run.epochs),
        Cell(
            bound, None if run.validation is None else _at_k(run.validation, run.k).sort, f"k={run.k}" if bound else ""
        ),
        Cell() if run.seconds is None else Cell(f"{run.seconds:,.0f}", run.seconds),
        Cell(run.reason, run.reason or None),
    ]
