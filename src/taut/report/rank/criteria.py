"""Information criteria of mixtures: a ranking without errors, of the rows that were fitted."""

from collections.abc import Sequence

from taut.report.rank.candidates import Candidate
from taut.report.rank.ranking import Ranking, Rival
from taut.report.read.scores import Scores
from taut.report.tables.training import CRITERIA

NEAR = 2.0
"""Differences below this are next to nothing, on the scale of -2 log L."""
MEANINGS = {
    "bic": "not worth more than a bare mention (Kass & Raftery, 1995)",
    "aic": "supported about as well (Burnham & Anderson, 2002)",
    "icl": "next to nothing on the scale of BIC",
}
"""What being so near means."""


def ranked(candidates: Sequence[Candidate], criterion: str) -> Ranking | None:
    """Settings by the lowest value of a criterion, on the scale of -2 log L; ``None`` unless all have it.

    A criterion is of the maximum of the likelihood, so of several seeds the one with the lowest value counts. Values
    for other numbers of rows are not compared; runs that are not at a maximum are left out.

    Args:
        candidates: Settings with their seeds.
        criterion: ``bic``, ``aic`` or ``icl``.
    """
    valid = [[entry.scores for entry in one.entries if at_a_maximum(entry.scores)] for one in candidates]
    scores = [one for some in valid for one in some]
    if not scores or any(criterion not in one.criteria for one in scores) or len({one.fitted for one in scores}) > 1:
        return None
    values = [
        (min(one.criteria[criterion] for one in some), candidate)
        for some, candidate in zip(valid, candidates, strict=True)
        if some
    ]
    (lowest, first), *others = sorted(values, key=lambda pair: pair[0])
    rivals = [Rival(one, value - lowest, None, False, value - lowest < NEAR) for value, one in others]
    return Ranking(first, [lowest], rivals)


def at_a_maximum(scores: Scores) -> bool:
    """Whether criteria mean anything: training has converged, no floor decides the likelihood, and no score is void."""
    return "log_px" not in scores.voids and scores.converged is not False and not scores.limits


def left_out(candidates: Sequence[Candidate]) -> int:
    """How many runs have criteria and are not ranked by them."""
    entries = [entry.scores for one in candidates for entry in one.entries]
    return sum(bool(scores.criteria) and not at_a_maximum(scores) for scores in entries)


def given(candidates: Sequence[Candidate]) -> list[str]:
    """The criteria that any of the runs has."""
    entries = [entry for one in candidates for entry in one.entries]
    return [name for name in CRITERIA if any(name in entry.scores.criteria for entry in entries)]
