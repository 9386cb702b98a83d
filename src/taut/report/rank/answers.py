"""The answer first: which run has the best bound, which the tightest, and how sure that is."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from taut.config.program import typed
from taut.files import from_here
from taut.functional.confidence_sequence import BURN_IN, LEVEL
from taut.report.lists import listed
from taut.report.numbers import number
from taut.report.rank import criteria
from taut.report.rank.candidates import Candidate, Entry, ScoreSet, settings_of, singles
from taut.report.rank.ranking import (
    CEILING,
    ELBO,
    GAP_HIGH,
    GAP_LOW,
    LOG_PX,
    Comparison,
    Measure,
    Over,
    Ranking,
    RankKey,
    compared,
)
from taut.report.rank.sentences import ALONE, ALONE_IN_SET, Name, Subject, Words, at_least, bracket_words, how
from taut.report.read.files import legible, whole

ENOUGH = 5
"""Seeds of a setting from which on a difference of some three standard deviations is found among a few settings."""
RANKED = 7
"""Settings that are named in the order of a criterion."""

MEANINGS: Mapping[Over, str] = {
    "data": "Compared over the data, the trained models as they are: what is said holds for new rows of the same kind, "
    "and not for models trained again with another seed. Confidence sequences (Waudby-Smith et al., 2024) hold at any "
    f"number of rows from {BURN_IN} on, so you may look, add rows and look again.",
    "seeds": "Compared over seeds, two or more of each setting: what is said holds for training again with other seeds "
    "on the same data, and not for other data.",
}
"""What a difference means, by what its error is of."""

Rankings = Mapping[str, Ranking | None]


@dataclass(frozen=True)
class Answer:
    """One question and who is first.

    Args:
        rank_key: What was asked.
        column: The score it is about, as the columns of tables are called.
        run: Name of the first.
        value: Its score.
        error: The errors of that, in words.
        verdict: ``clear``, ``tie``, ``open`` where no bound decides it, ``ranked`` without errors, or ``alone``.
        sentences: How far ahead it is of whom.
        first: The first itself.
        tied: Those that cannot be told apart from it.
    """

    rank_key: str
    column: str
    run: str
    value: str
    error: str
    verdict: str
    sentences: Sequence[str]
    first: Candidate
    tied: Sequence[Candidate]


@dataclass(frozen=True)
class Answers:
    """Statements about a set of comparable scores.

    Args:
        answers: One for each question.
        over: What errors of differences are of: the data, or the seeds.
        procedure: How it was compared, and with which confidence; empty for a single run.
        alone: Says of a single run that there is nothing to compare it with; empty for several.
    """

    answers: Sequence[Answer]
    over: Over
    procedure: Sequence[str]
    alone: str = ""


def meanings(found: Sequence[Answers]) -> list[str]:
    """Say once, of all sets that were compared over the data or over seeds, what their differences mean."""
    compared_over = {one.over for one in found if one.procedure}
    return [meaning for over, meaning in MEANINGS.items() if over in compared_over]


def answers(scores: ScoreSet, name: Name) -> Answers:
    """The highest log p(x), ELBO, the smallest gap, and the lowest information criteria.

    Where two settings or more were trained from several seeds, those are compared over the seeds; elsewhere the trained
    models over the data.

    Args:
        scores: The set.
        name: What an entry, or a setting, is called.
    """
    settings = settings_of(scores.entries)
    repeated = [one for one in settings if one.seeds > 1]
    over: Over = "seeds" if len(repeated) > 1 else "data"
    candidates = repeated if over == "seeds" else singles(scores.entries)
    asked = _asked(candidates)
    found = compared(candidates, list(asked.values()), over)
    rankings = dict(zip(asked, found.rankings, strict=True))
    held_out = not (scores.fitted or scores.other_data)
    words = Words(name, over, whole(scores.about.get("n")) or 0, held_out)
    made = [_log_px(rankings, candidates, words), _elbo(rankings, words), _tightest(rankings, candidates, words)]
    made += [_criterion(criterion, settings, name) for criterion in criteria.given(settings)]
    answered = [one for one in made if one]
    if len(scores.entries) == 1:
        # said once, and not of each of its scores
        answered = [replace(one, sentences=[each for each in one.sentences if each != ALONE]) for one in answered]
        return Answers(answered, over, [], f"{name(candidates[0])}: {ALONE_IN_SET}")
    return Answers(answered, over, [*_procedure(found, candidates, settings, name), *_rows_sentences(scores, found)])


def best_validations(scores: ScoreSet, name: Callable[[Entry], str]) -> list[tuple[str, str, str]]:
    """For each k, the run with the best validation bound: bounds of different k are not compared."""
    best: dict[int, tuple[float, Entry]] = {}
    for entry in scores.entries:
        value, k = entry.run.validation, entry.run.k
        if value is not None and k is not None and (k not in best or value > best[k][0]):
            best[k] = value, entry
    return [(f"k = {k:,}", name(entry), number(value)) for k, (value, entry) in sorted(best.items())]


def _asked(candidates: Sequence[Candidate]) -> dict[str, RankKey]:
    """The questions that these candidates raise: those that are not printed are not paid for."""
    asked = {"log_px": RankKey(LOG_PX), "elbo": RankKey(ELBO), "gap": RankKey(GAP_HIGH, GAP_LOW)}
    if not any(one.values(GAP_HIGH.score) for one in candidates):
        asked["gap"] = RankKey(GAP_LOW)
    if _bounded(candidates):
        asked["ceiling"] = RankKey(LOG_PX, CEILING)
    return asked


def _bounded(candidates: Sequence[Candidate]) -> bool:
    """Tell whether some log p(x) is bounded from above, and not simply known."""
    return not _exact(candidates) and any(one.values(CEILING.score) for one in candidates)


def _exact(candidates: Sequence[Candidate]) -> bool:
    brackets = [one.bracket(lambda scores: scores.log_px) for one in candidates]
    return all(bracket.exact for bracket in brackets if bracket is not None)


def _log_px(rankings: Rankings, candidates: Sequence[Candidate], words: Words) -> Answer | None:
    found, certain = rankings["log_px"], rankings.get("ceiling")
    if found is None:
        return None
    value = bracket_words(found.first.bracket(lambda scores: scores.log_px))
    if _exact(candidates):
        ahead = "It beats {who} by {apart}"
        sentences = words.sentences(found, ahead, Subject(_log_px_noun))
        return _answer("Highest log p(x)", "log p(x)", value, found, LOG_PX, words, sentences)
    sentences = words.sentences(found, "Its bound beats the bound of {who} by {apart}", Subject(_log_px_noun))
    sentences += _certain(certain, words)
    sentences += _left_open(found, certain, words)
    return _answer("Highest bound on log p(x)", "log p(x)", value, found, LOG_PX, words, sentences)


def _log_px_noun(candidate: Candidate) -> str:
    """Say whether log p(x) of a candidate is known or bounded from below."""
    bracket = candidate.bracket(lambda scores: scores.log_px)
    return "log p(x)" if bracket is not None and bracket.exact else "lower bound"


def _unbounded(candidate: Candidate) -> bool:
    bracket = candidate.bracket(lambda scores: scores.log_px)
    return bracket is not None and bracket.ceiling is None


def _left_open(found: Ranking, certain: Ranking | None, words: Words) -> list[str]:
    """Whose log p(x) may be higher than that of the first, though its lower bound is not.

    Args:
        found: By lower bounds.
        certain: Lower bound of the first against upper bounds.
        words: Words in which rankings are told.
    """
    behind = {id(one.candidate) for one in found.rivals if not one.tied}
    reached = [one.candidate for one in (certain.rivals if certain else ()) if one.tied and id(one.candidate) in behind]
    sentences = []
    if reached:
        names = listed([words.name(one) for one in reached])
        sentences.append(f"The log p(x) of {names} may still be higher: the upper bound there is not clearly below it.")
    if any(_unbounded(one.candidate) for one in found.rivals):
        sentences.append("Bounds from below order nothing but themselves: the log p(x) of another may still be higher.")
    return sentences


def _certain(certain: Ranking | None, words: Words) -> list[str]:
    """Whom the first beats whatever the bounds miss: its lower bound lies above their upper one."""
    below = [one for one in certain.rivals if not one.tied] if certain is not None else []
    if not below:
        return []
    limits = [one.at_least for one in below if one.at_least is not None]
    by = f" by {at_least(min(limits))}" if limits else ""
    return [
        f"It beats {listed([words.name(one.candidate) for one in below])}{by}: it lies above the upper bound there."
    ]


def _elbo(rankings: Rankings, words: Words) -> Answer | None:
    found = rankings["elbo"]
    if found is None:
        return None
    score = found.first.score(ELBO.score)
    ahead = "Its ELBO is above that of {who} by {apart}"
    sentences = words.sentences(found, ahead, Subject(lambda _: "ELBO"))
    return _answer("Highest ELBO", "ELBO", number(score and score.value), found, ELBO, words, sentences)


def _tightest(rankings: Rankings, candidates: Sequence[Candidate], words: Words) -> Answer | None:
    found = rankings["gap"]
    if found is None:
        return None
    value = bracket_words(found.first.bracket(lambda scores: scores.gap))
    if any(one.values(GAP_HIGH.score) for one in candidates):
        # over seeds there are no limits: the distance of upper from lower ends is then the least that can be said
        least = "at least " if words.over == "seeds" else ""
        ahead = f"Its gap is smaller than that of {{who}} by {least}{{apart}}"
        sentences = words.sentences(found, ahead, Subject(lambda _: "gap", "smaller"))
        return _answer("Tightest bound", "gap", value, found, GAP_HIGH, words, sentences)
    sentences = [
        *words.sentences(
            found,
            "The least it can be is below that of {who} by {apart}",
            Subject(lambda _: "least known gap", "smaller"),
        ),
        f"No gap has an upper bound yet, so any of them may be larger; {_to_type(candidates)} gives one.",
    ]
    made = _answer("Least known gap", "gap", value, found, GAP_LOW, words, sentences)
    return replace(made, verdict="open") if found.rivals else made


def _to_type(candidates: Sequence[Candidate]) -> str:
    """The command that evaluates the run, or each of several."""
    folders = {entry.run.folder for one in candidates for entry in one.entries}
    run = shlex.quote(from_here(folders.pop())) if len(folders) == 1 else "<run>"
    # a page names no path of the machine, and what had to be made legible cannot be typed
    short = not run.lstrip("'").startswith("/") and run == legible(run)
    return f"{typed('evaluate')} run={run if short else '<run>'}"


def _answer(
    rank_key: str, column: str, value: str, found: Ranking, measure: Measure, words: Words, sentences: Sequence[str]
) -> Answer:
    verdict = "tie" if found.tied else "clear" if found.rivals else "alone"
    bracket = found.first.bracket(lambda scores: scores.log_px) if measure is LOG_PX else None
    error = words.error(found.first, measure, bracket.high if bracket else None)
    tied = [one.candidate for one in found.tied]
    return Answer(rank_key, column, words.name(found.first), value, error, verdict, sentences, found.first, tied)


def _criterion(criterion: str, settings: Sequence[Candidate], name: Name) -> Answer | None:
    found = criteria.ranked(settings, criterion)
    if found is None:
        return None
    first, label = found.first, criterion.upper()
    seeds = f", the best of {first.seeds} seeds" if first.seeds > 1 else ""
    rows = first.entries[0].scores.fitted
    error = f"of the {'' if rows is None else f'{rows:,} '}training rows{seeds}; a criterion has no error"
    verdict = "tie" if found.tied else "ranked" if found.rivals else "alone"
    return Answer(
        f"Lowest {label}",
        label,
        name(first),
        f"{found.values[0]:,.1f}",
        error,
        verdict,
        [*_criterion_sentences(found, criterion, name), *_left_out(settings)],
        first,
        [one.candidate for one in found.tied],
    )


def _left_out(settings: Sequence[Candidate]) -> list[str]:
    """Number of runs that have no place in a ranking by criteria."""
    count = criteria.left_out(settings)
    return [f"Not ranked: {count} whose likelihood a floor decides, or that has not converged."] if count else []


def _criterion_sentences(found: Ranking, criterion: str, name: Name) -> list[str]:
    """List the others in their order, each with its distance from the first, so that the whole ranking is seen."""
    shown = [f"{name(one.candidate)} (+{number(one.behind, 1)})" for one in found.rivals[:RANKED]]
    more = [f"{len(found.rivals) - len(shown)} more"] if len(found.rivals) > len(shown) else []
    if not shown:
        return [ALONE]
    sentences = [f"Then {', '.join([*shown, *more])}."]
    if found.tied:
        who = "is" if len(found.tied) == 1 else f"{len(found.tied)} are"
        sentences.append(f"The next {who} within {criteria.NEAR:g} of it: {criteria.MEANINGS[criterion]}.")
    return sentences


def _rows_sentences(scores: ScoreSet, found: Comparison) -> list[str]:
    """Say what is known of whether the rows were fitted, unless they are held out."""
    if not found.tested:
        return []
    if scores.other_data:
        return ["These are not the data of the runs; whether rows of them were fitted is not known."]
    return ["The rows scored are those that were fitted, which favours the larger model."] if scores.fitted else []


def _procedure(
    found: Comparison, candidates: Sequence[Candidate], settings: Sequence[Candidate], name: Name
) -> list[str]:
    """Say how it was compared, and with which confidence."""
    if not found.tested:
        return []
    rivals = [rival for ranking in found.rankings if ranking for rival in ranking.rivals]
    if found.over == "seeds":
        how_tested = f"Welch's t tests of {found.tested:,} ordered pairs, corrected by Holm (1979)"
    else:
        how_tested = f"confidence sequences of {found.tested:,} ordered pairs{how(rivals)}"
    sentences = [f"{1 - LEVEL:.0%} for all comparisons of this set together: {how_tested}."]
    if found.over == "seeds" and min(one.seeds for one in candidates) < ENOUGH:
        sentences.append("Few seeds tell few settings apart: five or more of each do better.")
    void = [name(one) for one in candidates if any(entry.scores.voids for entry in one.entries)]
    if found.over == "seeds" and void:
        sentences.append(f"Without a place where a score of one of their seeds is void: {listed(void)}.")
    alone = [name(one) for one in settings if one.seeds == 1]
    if found.over == "seeds" and alone:
        sentences.append(f"One seed alone, and so not compared: {listed(alone)}.")
    return sentences
