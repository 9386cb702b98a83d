"""The sentences of a comparison: who is ahead of whom, by how much, and which error that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taut.functional.confidence_sequence import BURN_IN, LEVEL, MOST
from taut.report.lists import NAMED, listed
from taut.report.numbers import floored, number
from taut.report.rank.candidates import Candidate
from taut.report.rank.ranking import Measure, Over, Ranking, Rival
from taut.report.rank.significance import EQUAL
from taut.report.read.scores import Bracket, Score
from taut.report.tables.evaluation import LABELS

ALONE = "The only one that was scored in this way."
ALONE_IN_SET = "the only run that was scored in this way"

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


def how(rivals: Sequence[Rival]) -> str:
    """Say whether datum was compared with datum."""
    if not rivals:
        return ""
    if all(one.paired for one in rivals):
        return ", datum by datum"
    return (
        ", not paired and so wide" if not any(one.paired for one in rivals) else ", paired where every datum was kept"
    )


@dataclass(frozen=True)
class Subject:
    """Noun of the score that candidates are ranked by, and what the first is.

    Args:
        noun: What the score of a candidate is called.
        more: ``higher``, or ``smaller`` where less is better.
    """

    noun: Callable[[Candidate], str]
    more: str = "higher"


@dataclass(frozen=True)
class Words:
    """Words in which rankings are told.

    Args:
        name: What a candidate is called.
        over: What the errors of differences are of.
        n: Data.
        held_out: Whether the data are known to be others than those that were fitted.
    """

    name: Name
    over: Over
    n: int = 0
    held_out: bool = True

    def error(self, candidate: Candidate, measure: Measure, above: Score | None = None) -> str:
        """Both errors of a score, and of what bounds it from above, or its spread over the seeds."""
        spread = candidate.spread(measure.score)
        if spread is not None:
            return f"mean of {candidate.seeds} seeds, standard deviation {number(spread)}"
        score = candidate.score(measure.score)
        if score is None:
            return ""
        if above is None:
            return _errors(score)
        return f"lower end {_errors(score)}; upper end {_errors(above)}"

    def sentences(self, found: Ranking, ahead: str, subject: Subject) -> list[str]:
        """Whom the first cannot be told apart from, and whom it is ahead of.

        Args:
            found: A ranking.
            ahead: The second, with ``{who}`` for the nearest that is behind and ``{apart}`` for how far.
            subject: What the score is called.
        """
        if not found.rivals:
            return [ALONE]
        sentences = []
        if found.tied:
            names = [self.name(one.candidate) for one in found.tied]
            behind = listed([self._behind(one, subject) for one in found.tied[:NAMED]])
            more_data = self._more_data(found.tied[0], alone=len(names) == 1)
            sentences.append(f"Cannot be told apart from {listed(names)}: {behind}{more_data}.")
            sentences += self._at_fixed_data(found, subject)
        if found.next is not None:
            more = sum(not one.tied for one in found.rivals) - 1
            sentence = ahead.format(who=self.name(found.next.candidate), apart=self._apart(found.next))
            others = "1 more is" if more == 1 else f"{more} more are"
            sentences.append(f"{sentence}; {others} clearly behind too." if more else f"{sentence}.")
        return sentences

    def _behind(self, rival: Rival, subject: Subject) -> str:
        """How far behind one is that cannot be told apart from the first."""
        name, noun = self.name(rival.candidate), subject.noun(rival.candidate)
        who = f"the lower bound of {name}" if noun == "lower bound" else name
        return f"{who} is {self._difference(rival)} behind"

    def _apart(self, rival: Rival) -> str:
        """How far behind one is that is clearly so: at least, over the data."""
        if rival.at_least is None:
            return self._difference(rival)
        return f"{at_least(rival.at_least)}: {self._difference(rival)}"

    def _difference(self, rival: Rival) -> str:
        """Distance to the leader, with the error that decides whether it is clear."""
        if rival.error is None:
            return f"{number(rival.behind)} (error unknown)"
        which = "paired s.e." if rival.paired else "s.e."
        of = "seeds" if self.over == "seeds" else "the data"
        return f"{number(rival.behind)} ± {number(rival.error)} ({which} over {of})"

    def _more_data(self, nearest: Rival, *, alone: bool) -> str:
        """How many more data would tell the nearest apart, judged by what these differ by."""
        if self.over == "seeds" or nearest.error is None:
            return ""
        apart = "tell them apart" if alone else f"tell {self.name(nearest.candidate)} apart"
        if nearest.needed is None:
            return "" if nearest.behind <= EQUAL else f"; not even {MOST:,} rows would {apart}"
        few = f" ({BURN_IN} rows are the least)" if self.n < BURN_IN else ""
        rows = f"{rounded(nearest.needed - self.n)} more{' held-out' if self.held_out else ''} rows"
        return f"; about {rows} would {apart}, if the difference stays what it is here{few}"

    def _at_fixed_data(self, found: Ranking, subject: Subject) -> list[str]:
        """Distance of the nearest on the very data of both, where nothing can be said of others like them."""
        nearest = found.tied[0]
        if self.over == "seeds" or nearest.noise is None or nearest.behind < EQUAL:
            return []
        ours, theirs = subject.noun(found.first), subject.noun(nearest.candidate)
        than = "that" if ours == theirs else f"the {theirs}"
        rows = f"Among these {self.n:,} rows themselves"
        more = f"{rows} the {ours} of {self.name(found.first)} is {subject.more} than {than} of"
        if nearest.here is not None and nearest.here > EQUAL:
            by = f"at least {floored(nearest.here)} nats ({1 - LEVEL:.0%}, Monte Carlo noise alone)"
            settled = "for new rows of the same kind that is not settled"
            return [f"{more} {self.name(nearest.candidate)} by {by}; {settled}."]
        by = f"{number(nearest.behind)} ± {number(nearest.noise)} (s.e. Monte Carlo)"
        return [f"{more} {self.name(nearest.candidate)} by {by}, which noise alone may explain."]


def at_least(limit: float) -> str:
    """A limit, in digits that never claim more than it."""
    return f"at least {floored(max(limit, 0.0))} nats ({1 - LEVEL:.0%}, asymptotic)"


def rounded(number_of: int) -> str:
    """A number to its first digit, upwards."""
    unit = 10 ** (len(str(number_of)) - 1)
    return f"{-(-number_of // unit) * unit:,}"


def _errors(score: Score) -> str:
    over = "error unknown" if score.error is None else f"± {number(score.error)} over the data"
    return over if not score.noise else f"{over}, ± {number(score.noise)} Monte Carlo"
