"""The sentences of a comparison: who is ahead of whom, by how much, and which error that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taut.report.rank.candidates import Candidate
from taut.report.rank.ranking import Measure, Over, Ranking, Rival
from taut.report.rank.significance import EQUAL
from taut.report.read.scores import Bracket, Score
from taut.report.tables.evaluation import LABELS, number

NAMED = 3
"""Runs that are named in a sentence; the others are counted."""
ALONE = "The only one that was scored in this way."

Name = Callable[[Candidate], str]


def bracket_words(bracket: Bracket | None, digits: int = 3) -> str:
    """A point, an interval, at least the lower end, or about what ends lie around that noise made cross.

    A ``?`` follows where an estimator is doubted.
    """
    if bracket is None:
        return ""
    low, high = bracket.low, bracket.ceiling
    doubt = " ?" if low.reliability_warnings or (high is not None and high.reliability_warnings) else ""
    if bracket.exact:
        return f"= {number(low.value, digits)}{doubt}"
    if high is None:
        return f"≥ {number(low.value, digits)}{doubt}"
    if high.value < low.value:
        return f"about {number((low.value + high.value) / 2, digits)}{doubt}"
    return f"[{number(low.value, digits)}, {number(high.value, digits)}]{doubt}"


def label(estimator: str) -> str:
    """The name of an estimator as it is written."""
    return LABELS.get(estimator, estimator)


def listed(names: Sequence[str]) -> str:
    """Some names, the others counted."""
    shown = list(names[:NAMED])
    more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    *before, last = [*shown, *more]
    return f"{', '.join(before)} and {last}" if before else last


def how(rivals: Sequence[Rival]) -> str:
    """Whether datum was held against datum."""
    if not rivals:
        return ""
    if all(one.paired for one in rivals):
        return ", datum by datum"
    return (
        ", not paired and so wide" if not any(one.paired for one in rivals) else ", paired where every datum was kept"
    )


@dataclass(frozen=True)
class Words:
    """How rankings are told.

    Args:
        name: What a candidate is called.
        over: What the errors of differences are of.
    """

    name: Name
    over: Over

    def error(self, candidate: Candidate, measure: Measure) -> str:
        """Both errors of a score, or its spread over the seeds."""
        spread = candidate.spread(measure.score)
        if spread is not None:
            return f"mean of {candidate.seeds} seeds, standard deviation {number(spread)}"
        score = candidate.score(measure.score)
        return "" if score is None else _errors(score)

    def sentences(self, found: Ranking, ahead: str) -> list[str]:
        """Whom the first cannot be told apart from, and whom it is ahead of.

        Args:
            found: A ranking.
            ahead: The second, with ``{who}`` for the nearest that is behind and ``{apart}`` for how far.
        """
        if not found.rivals:
            return [ALONE]
        sentences = []
        if found.tied:
            names, nearest = [self.name(one.candidate) for one in found.tied], found.tied[0]
            sentences.append(f"Tie with {listed(names)}: {names[0]} is {self._apart(nearest)} behind.")
            sentences += self._at_fixed_data(nearest)
        if found.next is not None:
            more = sum(not one.tied for one in found.rivals) - 1
            sentence = ahead.format(who=self.name(found.next.candidate), apart=self._apart(found.next))
            others = "1 more is" if more == 1 else f"{more} more are"
            sentences.append(f"{sentence}; {others} clearly behind too." if more else f"{sentence}.")
        return sentences

    def _apart(self, rival: Rival) -> str:
        """How far it is behind, and which error decides whether that is clear."""
        if rival.error is None:
            return f"{number(rival.behind)} (error unknown)"
        which = "paired s.e." if rival.paired else "s.e."
        of = "seeds" if self.over == "seeds" else "the data"
        return f"{number(rival.behind)} ± {number(rival.error)} ({which} over {of})"

    def _at_fixed_data(self, nearest: Rival) -> list[str]:
        """How far the nearest is behind on the very data of both, where that is all that can be said sharply."""
        if self.over == "seeds" or nearest.paired or nearest.noise is None or nearest.behind < EQUAL:
            return []
        behind = f"{number(nearest.behind)} ± {number(nearest.noise)} (s.e. Monte Carlo)"
        return [f"On these very data {self.name(nearest.candidate)} is {behind} behind."]


def _errors(score: Score) -> str:
    over = "error unknown" if score.error is None else f"± {number(score.error)} over the data"
    return over if not score.noise else f"{over}, ± {number(score.noise)} Monte Carlo"
