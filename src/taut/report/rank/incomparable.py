"""Reasons why sets of scores are not compared with one another, and what to type so that they are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from taut.config.program import typed
from taut.report.lists import listed
from taut.report.rank.candidates import ScoreSet
from taut.report.read.runs import Run, names_of

MOST = 5
"""Sentences that are printed; the others are counted."""
RETRAINED = {
    "binarisation": ("the binarisations are {} and {}", "the same data.binarisation"),
    "mask": ("the masks are {} and {}", "the same mask"),
    "cells": ("log p(x) is of {} cells and of {} cells", "the same mask and a likelihood of the same kind"),
    "measure": (
        "log p(x) is a {} in one and a {} in the other (no common unit)",
        "likelihoods of one kind",
    ),
    "data_digest": ("they were scored on different rows or columns of {data}", "the same data.* words"),
}
"""Differences that another training would remove: how they are said, and what both trainings need."""
EVALUATED = {
    "split": ("the splits are {} and {}", "split=test"),
    "n": ("{} and {} data were scored", "limit=<data>"),
    "k": ("K is {} and {}", "k=<samples>"),
    "k_test": ("K is {} and {}", ""),
    "estimators": ("the estimators differ", ""),
    "held_out": ("one of them was scored on the rows that it was trained on", ""),
}
"""Differences that one evaluation of both would remove: how they are said, and the words of it."""
IMPLIED = {
    "binarisation": ("data_digest",),
    "mask": ("cells", "measure"),
    "cells": ("measure",),
    "split": ("n", "held_out"),
    "k": ("estimators",),
}
"""Differences that follow from others, and are not said beside them."""


Called = Callable[[Run], str]


@dataclass(frozen=True)
class _Pair:
    """Two sets of scores and the names of what differs between them."""

    first: ScoreSet
    second: ScoreSet
    differ: Sequence[str]


def incomparable(sets: Sequence[ScoreSet], called: Called) -> list[str]:
    """A sentence for each set that is ranked apart: from which runs, why, and what would make them comparable.

    Each is held against the one before it that it has most in common with. What one evaluation and one test of the same
    runs share is said once.

    Args:
        sets: All sets of a report.
        called: What a run is called.
    """
    sentences = list(dict.fromkeys(_sentences(sets, called)))
    more = len(sentences) - MOST
    return sentences if more <= 0 else [*sentences[:MOST], f"{_counted(more)} apart as well."]


def _counted(more: int) -> str:
    return "1 more set of scores is ranked" if more == 1 else f"{more} more sets of scores are ranked"


def _sentences(sets: Sequence[ScoreSet], called: Called) -> Iterator[str]:
    of_data = dict.fromkeys(one.key["data"] for one in sets)
    if len(of_data) > 1:
        yield f"Scores of different data are never compared: {listed(list(of_data))}."
    for place, second in enumerate(sets):
        pairs = [
            _Pair(first, second, _differing(first, second))
            for first in sets[:place]
            if _alike(first, second) and not _together(first, second, sets)
        ]
        if pairs:
            yield _sentence(min(pairs, key=lambda pair: len(pair.differ)), called)


def _alike(first: ScoreSet, second: ScoreSet) -> bool:
    """Tell whether somebody may expect two sets to be compared: other runs, of one data set, scored on one occasion."""
    others = not _runs(second) <= _runs(first)
    return first.source == second.source and first.key["data"] == second.key["data"] and others


def _together(first: ScoreSet, second: ScoreSet, sets: Sequence[ScoreSet]) -> bool:
    """Tell whether the runs of two sets are all compared in one set already."""
    return any(_runs(first) | _runs(second) <= _runs(one) for one in sets)


def _runs(scores: ScoreSet) -> set[int]:
    return {id(entry.run) for entry in scores.entries}


def _differing(first: ScoreSet, second: ScoreSet) -> list[str]:
    names = [name for name in (*RETRAINED, *EVALUATED) if first.key.get(name) != second.key.get(name)]
    implied = {other for name in names for other in IMPLIED.get(name, ())}
    return [name for name in names if name not in implied]


def _sentence(pair: _Pair, called: Called) -> str:
    said, both = {**RETRAINED, **EVALUATED}, (pair.second, pair.first)
    reasons = [
        said[key][0].format(pair.first.key[key], pair.second.key[key], data=pair.first.key["data"])
        for key in pair.differ
    ]
    names = [names_of(list({id(entry.run): entry.run for entry in one.entries}.values())).labels for one in both]
    if set(names[0]) & set(names[1]):
        # what tells the runs of a set apart from one another need not tell them from those of the other
        names = [list(dict.fromkeys(called(entry.run) for entry in one.entries)) for one in both]
    verb = "is" if len(names[0]) == 1 else "are"
    why = " and ".join(reasons)
    return f"{listed(names[0])} {verb} not compared with {listed(names[1])}: {why}; {_advice(pair.differ)}."


def _advice(differ: Sequence[str]) -> str:
    """Words that make two sets comparable: those of another training where an evaluation is not enough."""
    needed = [RETRAINED[key][1] for key in differ if key in RETRAINED]
    if needed:
        return f"train both with {' and '.join(needed)}"
    words = " ".join(filter(None, (EVALUATED[key][1] for key in differ)))
    return f'evaluate both in one way: {typed("evaluate")} "run=[<a>,<b>]" {words}'.rstrip()
