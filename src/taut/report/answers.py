"""The answer first: which run has the best bound, which the tightest, and how sure that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taut.report.evaluation import LABELS, number
from taut.report.ranking import CEILING, ELBO, EQUAL, GAP_HIGH, GAP_LOW, LOG_PX, Entry, Ranking, Rival, ranked
from taut.report.scores import Bracket, Score
from taut.report.sets import ScoreSet

NAMED = 3
"""Runs that are named in a sentence; the others are counted."""

Name = Callable[[Entry], str]


@dataclass(frozen=True)
class Answer:
    """One question and who is first.

    Args:
        question: What was asked.
        run: Name of the first.
        value: Its score, nats.
        error: The errors of that, in words.
        verdict: ``clear``, ``tie``, ``open`` where no bound decides it, or ``alone``.
        sentences: How far ahead it is of whom.
        first: The entry itself.
        tied: The entries that cannot be told apart from it.
    """

    question: str
    run: str
    value: str
    error: str
    verdict: str
    sentences: Sequence[str]
    first: Entry
    tied: Sequence[Entry]


def answers(scores: ScoreSet, name: Name) -> list[Answer]:
    """What a set of comparable scores says: the highest log p(x), the highest ELBO, the smallest gap."""
    return [found for found in (_log_px(scores, name), _elbo(scores, name), _tightest(scores, name)) if found]


def best_validations(scores: ScoreSet, name: Name) -> list[tuple[str, str, str]]:
    """For each k, the run with the best validation bound: bounds of different k are not compared."""
    best: dict[int, tuple[float, Entry]] = {}
    for entry in scores.entries:
        value, k = entry.run.validation, entry.run.k
        if value is not None and k is not None and (k not in best or value > best[k][0]):
            best[k] = value, entry
    return [(f"k = {k:,}", name(entry), number(value)) for k, (value, entry) in sorted(best.items())]


def bracket_words(bracket: Bracket | None, digits: int = 3) -> str:
    """A point, an interval, at least the lower end, or about what ends lie around that noise made cross.

    A ``?`` follows where an estimator is doubted.
    """
    if bracket is None:
        return ""
    low, high = bracket.low, bracket.ceiling
    doubt = " ?" if low.doubts or (high is not None and high.doubts) else ""
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


def errors_words(score: Score) -> str:
    """Both errors of a score."""
    over = "error unknown" if score.error is None else f"± {number(score.error)} over the data"
    return over if not score.noise else f"{over}, ± {number(score.noise)} Monte Carlo"


def _log_px(scores: ScoreSet, name: Name) -> Answer | None:
    found = ranked(scores.entries, LOG_PX)
    if found is None:
        return None
    bracket = found.first.scores.log_px
    sentences = _sentences(found, name, "the bound")
    certain = ranked(scores.entries, LOG_PX, CEILING)
    if any(one.scores.log_px and one.scores.log_px.high for one in scores.entries) and certain and certain.rivals:
        over = sum(not one.tied for one in certain.rivals)
        sentences.append(f"Upper bounds put the log p(x) of {over} of {len(found.rivals)} others certainly below it.")
    elif found.rivals and bracket is not None and not bracket.exact:
        sentences.append("These are bounds from below: the log p(x) of another may still be higher.")
    return _answer("Highest log p(x)", found, bracket_words(bracket), sentences, name)


def _elbo(scores: ScoreSet, name: Name) -> Answer | None:
    found = ranked(scores.entries, ELBO)
    if found is None:
        return None
    return _answer("Highest ELBO", found, number(found.score.value), _sentences(found, name, "the ELBO"), name)


def _tightest(scores: ScoreSet, name: Name) -> Answer | None:
    closed = ranked(scores.entries, GAP_HIGH, GAP_LOW)
    found = closed or ranked(scores.entries, GAP_LOW)
    if found is None:
        return None
    words = bracket_words(found.first.scores.gap)
    if closed is not None:
        return _answer("Tightest bound", found, words, _sentences(found, name, "the gap", "smaller"), name)
    sentences = [
        *_sentences(found, name, "the lower end", "smaller"),
        "Open: no gap is bounded from above. python evaluate.py run=<run> experiment=gap closes the bracket.",
    ]
    return _answer("Tightest bound", found, words, sentences, name, undecided=True)


def _answer(
    question: str, found: Ranking, value: str, sentences: Sequence[str], name: Name, *, undecided: bool = False
) -> Answer:
    verdict = "tie" if found.tied else "clear" if found.rivals else "alone"
    if undecided and found.rivals:
        verdict = "open"
    tied = [one.entry for one in found.tied]
    return Answer(question, name(found.first), value, errors_words(found.score), verdict, sentences, found.first, tied)


def _sentences(found: Ranking, name: Name, what: str, better: str = "higher") -> list[str]:
    if not found.rivals:
        return ["The only run that was scored in this way."]
    sentences = []
    if found.tied:
        known = [one for one in found.tied if one.error is not None]
        sentences.append(f"Tie with {_named(found.tied, name)} (within 2 s.e.{_how(known)}).")
        sentences += _at_fixed_data(found, name)
    if found.next is not None:
        ahead = [one for one in found.rivals if not one.tied]
        others = f" and {len(ahead) - 1} more" if len(ahead) > 1 else ""
        apart = number(found.next.behind)
        error = "" if found.next.error is None else f" ± {number(found.next.error)}"
        sentences.append(f"Clearly ahead of {name(found.next.entry)}{others}: {what} is {apart}{error} {better}.")
    return sentences


def _at_fixed_data(found: Ranking, name: Name) -> list[str]:
    """How far the nearest is behind on the very data of both, where that is all that can be said sharply."""
    nearest = found.tied[0]
    if nearest.paired or nearest.noise is None or nearest.behind < EQUAL:
        return []
    behind = f"{number(nearest.behind)} ± {number(nearest.noise)} (Monte Carlo)"
    return [f"On these very data {name(nearest.entry)} is {behind} behind."]


def _how(rivals: Sequence[Rival]) -> str:
    if not rivals:
        return ", unknown"
    if all(one.paired for one in rivals):
        return ", datum by datum"
    return (
        ", not paired and so wide" if not any(one.paired for one in rivals) else ", paired where every datum was kept"
    )


def _named(rivals: Sequence[Rival], name: Name) -> str:
    shown = [name(one.entry) for one in rivals[:NAMED]]
    more = len(rivals) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
