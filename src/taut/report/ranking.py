"""Who comes first among comparable scores, by how much, and who cannot be told apart from it.

A difference within two standard errors is a tie. Where both runs have a table of every datum the error is that of the
paired difference; elsewhere the errors are added as if the data were not the same, which is too wide rather than
too narrow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from taut.report.files import Reader
from taut.report.runs import Run
from taut.report.scores import Score, Scores

ERRORS = 2.0
"""Standard errors up to which a difference is a tie."""
EQUAL = 5e-4
"""Nats within which two numbers are shown as the same."""
MOST_PAIRED = 24
"""Rivals whose tables are read."""

Values = list[float | None]


@dataclass(frozen=True)
class Entry:
    """A run and its scores in one set of comparable ones."""

    run: Run
    scores: Scores


@dataclass(frozen=True)
class Measure:
    """A score that entries are ranked by, and the columns of ``data.csv`` that it is the mean of.

    Args:
        score: The score of an entry, if it has one.
        column: Name of its column; empty where there is none.
        sign: 1 where more is better, -1 where less is.
    """

    score: Callable[[Scores], Score | None]
    column: Callable[[Scores], str]
    sign: int = 1


@dataclass(frozen=True)
class Rival:
    """One of the others: how far behind the first it is, nats.

    Args:
        entry: Who.
        behind: Difference; positive where it is worse.
        error: Standard error of the difference, or None where it is unknown.
        paired: Whether datum was held against datum.
        noise: Monte Carlo standard error of the difference at fixed data, or None where it is unknown.
    """

    entry: Entry
    behind: float
    error: float | None
    paired: bool
    noise: float | None = None

    @property
    def tied(self) -> bool:
        """Whether it cannot be told apart from the first."""
        return self.error is None or self.behind <= max(ERRORS * self.error, EQUAL)


@dataclass(frozen=True)
class Ranking:
    """The first of some comparable entries, and all others, nearest first."""

    first: Entry
    score: Score
    rivals: Sequence[Rival]

    @property
    def tied(self) -> list[Rival]:
        """Those that cannot be told apart from the first."""
        return [one for one in self.rivals if one.tied]

    @property
    def next(self) -> Rival | None:
        """The nearest that is clearly behind."""
        return next((one for one in self.rivals if not one.tied), None)


ELBO = Measure(lambda one: one.elbo, lambda one: "elbo")
LOG_PX = Measure(lambda one: one.log_px and one.log_px.low, lambda one: one.log_px.lower if one.log_px else "")
CEILING = Measure(lambda one: one.log_px and one.log_px.ceiling, lambda one: one.log_px.upper if one.log_px else "")
GAP_LOW = Measure(lambda one: one.gap and one.gap.low, lambda one: "gap_low", -1)
GAP_HIGH = Measure(lambda one: one.gap and one.gap.ceiling, lambda one: "gap_high", -1)


def ranked(entries: Sequence[Entry], measure: Measure, against: Measure | None = None) -> Ranking | None:
    """The entry with the best score, and how far the others are behind; ``None`` where no entry has that score.

    Args:
        entries: Comparable ones.
        measure: What the first is chosen by.
        against: What the others are held against it by, where that is another score: with the upper end of the gap
            for ``measure`` and the lower one here, a rival is behind if its gap is certainly larger.
    """
    other = against or measure
    known = [(score, one) for one in entries if (score := measure.score(one.scores)) is not None]
    if not known:
        return None
    score, first = max(known, key=lambda pair: measure.sign * pair[0].value)
    behind = [
        (measure.sign * (score.value - found.value), found, one)
        for one in entries
        if one is not first and (found := other.score(one.scores)) is not None
    ]
    behind.sort(key=lambda triple: triple[0])
    rivals = [
        _rival((first, measure, score), (one, other, found), far, paired=place < MOST_PAIRED)
        for place, (far, found, one) in enumerate(behind)
    ]
    return Ranking(first, score, sorted(rivals, key=lambda rival: not rival.tied))


Side = tuple[Entry, Measure, Score]


def _rival(first: Side, other: Side, behind: float, *, paired: bool) -> Rival:
    scores = first[2], other[2]
    error, noise = (_combined([getattr(one, name) for one in scores]) for name in ("error", "noise"))
    if paired and (error is None or behind <= ERRORS * error):  # a wide error is looked at more closely
        found = _paired(first, other)
        if found is not None:
            return Rival(other[0], behind, found, True, noise)
    return Rival(other[0], behind, error, False, noise)


def _combined(errors: Sequence[float | None]) -> float | None:
    return None if None in errors else math.sqrt(sum(one * one for one in errors if one is not None))


def _paired(first: Side, other: Side) -> float | None:
    """Standard error of the mean difference, datum by datum."""
    ours, theirs = (_values(*side[:2]) for side in (first, other))
    if len(ours) != len(theirs) or len(ours) < 2:
        return None
    apart = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    if len(apart) != len(ours):
        return None
    mean = math.fsum(apart) / len(apart)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in apart) / (len(apart) - 1) / len(apart))


def _values(entry: Entry, measure: Measure) -> Values:
    scores = entry.scores
    exact_gap = measure in (GAP_LOW, GAP_HIGH) and scores.gap is not None and scores.gap.exact
    column = "gap_low" if exact_gap else measure.column(scores)
    return _table(entry.run, scores).get(column, []) if scores.table else []


@lru_cache(maxsize=256)
def _read(folder: str, table: str, wanted: frozenset[str]) -> dict[str, Values]:
    return Reader(Path(folder)).columns(table, wanted)


def _table(run: Run, scores: Scores) -> dict[str, Values]:
    names = {scores.log_px.lower, scores.log_px.upper} if scores.log_px else set()
    wanted = frozenset({"elbo", "gap_low", "gap_high", *names} - {""})
    return _read(str(run.folder), scores.table, wanted)
