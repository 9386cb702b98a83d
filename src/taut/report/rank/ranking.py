"""Ranking of comparable scores: who comes first, by how much, and who cannot be told apart from it.

What is said of one set of comparable scores holds together with 95% confidence (``taut.report.rank.significance``):
whoever comes first, in all questions, over all rivals. Trained models are compared over the data, datum by datum where
both have a table of them; where settings were trained from several seeds, they are compared over those instead. An
error over the data says nothing of another training, and one over seeds nothing of other data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np

from taut.functional.confidence_sequence import LEVEL, needed
from taut.report.rank.candidates import Candidate, Entry
from taut.report.rank.significance import EQUAL, Differences, Means, OverData, OverSeeds, holm, over_data, over_seeds
from taut.report.read.files import Reader, whole
from taut.report.read.runs import Run
from taut.report.read.scores import Score, Scores

Over = Literal["data", "seeds"]


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
class RankKey:
    """Score that all candidates are compared by.

    Args:
        measure: What the first is chosen by.
        against: What the others are held against it by, where that is another score: with the upper end of the gap for
            ``measure`` and the lower one here, a rival is behind if its gap is certainly larger.
    """

    measure: Measure
    against: Measure | None = None

    @property
    def sides(self) -> tuple[Measure, Measure]:
        """Words for the leading and the trailing side."""
        return self.measure, self.against or self.measure


@dataclass(frozen=True)
class Rival:
    """One of the others: how far behind the first it is, nats.

    Args:
        candidate: Who.
        behind: Difference; positive where it is worse.
        error: Standard error of the difference, or None where it is unknown.
        paired: Whether datum was held against datum.
        tied: Whether it cannot be told apart from the first.
        noise: Monte Carlo standard error of the difference at fixed data, at most, or None where it is unknown.
        at_least: What it is behind at least; None over seeds, or where nothing is known of that.
        here: What it is behind at least on these very data, as far as the noise goes; likewise.
        needed: Data at which it would be told apart if all stayed as it is; None over seeds, or where none would do.
    """

    candidate: Candidate
    behind: float
    error: float | None
    paired: bool
    tied: bool
    noise: float | None = None
    at_least: float | None = None
    here: float | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Ranking:
    """The first of some candidates, and all others, nearest first, those that are tied before the others."""

    first: Candidate
    values: Sequence[float]
    rivals: Sequence[Rival]

    @property
    def tied(self) -> list[Rival]:
        """Those that cannot be told apart from the first."""
        return [one for one in self.rivals if one.tied]

    @property
    def next(self) -> Rival | None:
        """The nearest that is clearly behind."""
        return next((one for one in self.rivals if not one.tied), None)


@dataclass(frozen=True)
class Comparison:
    """Rankings by several questions, whose statements hold together.

    Args:
        rankings: One for each question; None where no candidate has that score.
        tested: Ordered pairs that were tested in all.
        over: What the errors are of.
    """

    rankings: Sequence[Ranking | None]
    tested: int
    over: Over


ELBO = Measure(lambda one: one.elbo, lambda one: "elbo")
LOG_PX = Measure(lambda one: one.log_px and one.log_px.low, lambda one: one.log_px.lower if one.log_px else "")
CEILING = Measure(lambda one: one.log_px and one.log_px.ceiling, lambda one: one.log_px.upper if one.log_px else "")
GAP_LOW = Measure(lambda one: one.gap and one.gap.low, lambda one: "gap_low", -1)
GAP_HIGH = Measure(lambda one: one.gap and one.gap.ceiling, lambda one: "gap_high", -1)


def compared(candidates: Sequence[Candidate], rank_keys: Sequence[RankKey], over: Over = "data") -> Comparison:
    """Rank candidates by each question; a rival is behind only where all such statements hold with 95% confidence.

    Args:
        candidates: Comparable ones.
        rank_keys: What is asked of them.
        over: What their errors are of: the data, for candidates of one entry, or the seeds.
    """
    asked = list(rank_keys)
    if over == "seeds":
        found = [_over_seeds(candidates, one) for one in asked]
        p_values = [one.p_values() for one in found]
        verdicts = [_Verdict(behind) for behind in holm(p_values)]
        tested = sum(int((~np.isnan(one)).sum()) for one in p_values)
    else:
        found = [_over_data(candidates, one) for one in asked]
        tested = sum(one.pairs for one in found)
        verdicts = [_limited(one, LEVEL / max(tested, 1)) for one in found]
    rankings = [_ranking(candidates, *three) for three in zip(asked, found, verdicts, strict=True)]
    return Comparison(rankings, tested, over)


@dataclass(frozen=True)
class _Verdict:
    """Who is told apart from whom.

    Args:
        behind: Whether j is behind i, ``[i, j]``.
        limits: By how much at least, where limits were made.
        level: That of each of them.
    """

    behind: np.ndarray
    limits: np.ndarray | None = None
    level: float = LEVEL

    @property
    def normal(self) -> float:
        """Standard errors of the noise to a limit at that level."""
        return NormalDist().inv_cdf(1 - self.level)


def _limited(found: OverData, level: float) -> _Verdict:
    limits = found.limits(level)
    # NaN, unknown, is above nothing
    return _Verdict((limits > 0) & (found.mean > EQUAL), limits, level)


def _ranking(
    candidates: Sequence[Candidate], rank_key: RankKey, found: Differences, verdict: _Verdict
) -> Ranking | None:
    leads = [one.values(rank_key.measure.score) for one in candidates]
    # -i: of equal ones the earlier comes first
    known = [(rank_key.measure.sign * float(np.mean(values)), -i) for i, values in enumerate(leads) if values]
    if not known:
        return None
    first = -max(known)[1]
    rivals = [
        Rival(
            candidate,
            float(found.mean[first, i]),
            None if np.isnan(found.error[first, i]) else float(found.error[first, i]),
            bool(found.paired[first, i]),
            not verdict.behind[first, i],
            noise := _noise(candidates[first], candidate, rank_key),
            None if verdict.limits is None or np.isnan(verdict.limits[first, i]) else float(verdict.limits[first, i]),
            None if verdict.limits is None or noise is None else float(found.mean[first, i]) - verdict.normal * noise,
            _needed(found, verdict, first, i),
        )
        for i, candidate in enumerate(candidates)
        if i != first and not np.isnan(found.mean[first, i])
    ]
    rivals.sort(key=lambda rival: (not rival.tied, rival.behind))
    return Ranking(candidates[first], leads[first], rivals)


def _needed(found: Differences, verdict: _Verdict, first: int, other: int) -> int | None:
    """Data at which the two would be told apart, of a pair that is not."""
    if not isinstance(found, OverData) or verdict.behind[first, other]:
        return None
    mean, error = float(found.mean[first, other]), float(found.error[first, other])
    if not mean > EQUAL or np.isnan(error):
        return None
    return needed(mean, error * math.sqrt(found.n), float(found.skewness[first, other]), verdict.level)


def _over_data(candidates: Sequence[Candidate], rank_key: RankKey) -> OverData:
    entries = [candidate.entries[0] for candidate in candidates]
    n = whole(entries[0].scores.about.get("n")) or 0 if entries else 0
    better, worse = (_means(entries, measure, n) for measure in rank_key.sides)
    found = over_data(better, worse, n)
    # two evaluations of one run are no two models
    runs = [id(entry.run) for entry in entries]
    found.mean[np.equal.outer(runs, runs)] = np.nan
    return found


def _means(entries: Sequence[Entry], measure: Measure, n: int) -> Means:
    scores = [measure.score(entry.scores) for entry in entries]
    values = [np.nan if score is None else measure.sign * score.value for score in scores]
    errors = [np.nan if score is None or score.error is None else score.error for score in scores]
    return Means(np.array(values), np.array(errors), [_values(entry, measure, n) for entry in entries])


def _over_seeds(candidates: Sequence[Candidate], rank_key: RankKey) -> OverSeeds:
    sides = [
        [[measure.sign * value for value in candidate.values(measure.score)] for candidate in candidates]
        for measure in rank_key.sides
    ]
    return over_seeds(*sides)


def _noise(first: Candidate, rival: Candidate, rank_key: RankKey) -> float | None:
    measures = zip((first, rival), rank_key.sides, strict=True)
    scores = [measure.score(one.entries[0].scores) for one, measure in measures]
    found = [None if score is None else score.noise for score in scores]
    # shared noise makes the two rise and fall together, or one fall where the other rises: their sum bounds both
    return None if None in found else float(sum(one for one in found if one is not None))


def _values(entry: Entry, measure: Measure, n: int) -> np.ndarray | None:
    """The value of every datum, more being better, or ``None`` unless there is a number for each of them."""
    scores = entry.scores
    if not scores.table or measure.score(scores) is None or n < 2:
        return None
    exact_gap = measure in (GAP_LOW, GAP_HIGH) and scores.gap is not None and scores.gap.exact
    column = "gap_low" if exact_gap else LOG_PX.column(scores) if _exact(scores, measure) else measure.column(scores)
    values = _table(entry.run, scores).get(column)
    if values is None or len(values) != n or np.isnan(values).any():
        return None
    return measure.sign * values


def _exact(scores: Scores, measure: Measure) -> bool:
    return measure is CEILING and scores.log_px is not None and scores.log_px.exact


# every question reads the same tables
@lru_cache(maxsize=1024)
def _read(folder: str, table: str, wanted: frozenset[str]) -> dict[str, np.ndarray]:
    """Columns as arrays, NaN where there is no number: lists would take four times the memory, for every run."""
    return {name: np.array(values, dtype=float) for name, values in Reader(Path(folder)).columns(table, wanted).items()}


def _table(run: Run, scores: Scores) -> dict[str, np.ndarray]:
    names = {scores.log_px.lower, scores.log_px.upper} if scores.log_px else set()
    wanted = frozenset({"elbo", "gap_low", "gap_high", *names} - {""})
    return _read(str(run.folder), scores.table, wanted)
