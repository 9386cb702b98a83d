"""Cells and heads of tables as words and sort keys, for the terminal and for the page alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from taut.report.evaluation import number
from taut.report.scores import Bracket, Score
from taut.report.sentences import bracket_words

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
    found = as_number(value)
    return Cell(value, value if found is None else found)


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
    return Cell(number(value), f"{k or 0:012d} {value + 1e9:024.9f}", note)


def bracket_cell(bracket: Bracket | None, mark: str = "", doubt: str = "") -> Cell:
    """A point, an interval or a lower end, with the error over the data where there is one end."""
    if bracket is None:
        return Cell()
    words = bracket_words(bracket)
    words = words if not doubt or words.endswith("?") else f"{words} ?"
    note = plus_minus(bracket.low.error, 3) if bracket.high is None else ""
    return Cell(words, bracket.low.value, note, mark, doubt)


def void_cell(sentence: str) -> Cell:
    """In the place of a score that is void."""
    return Cell("void", title=sentence)


def criterion_cell(value: float | None, mark: str = "") -> Cell:
    """An information criterion."""
    return Cell() if value is None else Cell(f"{value:,.1f}", value, mark=mark)


def plus_minus(error: float | None, digits: int) -> str:
    """An error as it stands behind its value."""
    return "" if error is None else f"± {number(error, digits)}"
