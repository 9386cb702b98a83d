"""Notes that belong beside scores: what is void, which floors bind, what did not converge."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from taut.report.lists import listed
from taut.report.rank.candidates import ScoreSet
from taut.report.read.scores import Scores

Kind = Literal["void", "limit", "doubt"]


@dataclass(frozen=True)
class Note:
    """One sentence.

    Args:
        kind: ``void`` for a score that is none, ``limit`` for what the scores depend on, ``doubt`` for all else.
        who: The runs it is about.
        text: What it says.
    """

    kind: Kind
    who: str
    text: str


def notes_of(scores: ScoreSet, labels: Sequence[str]) -> list[Note]:
    """The notes on a set of comparable scores, the gravest first; runs of which the same is said share one.

    Args:
        scores: The set.
        labels: What its entries are called.
    """
    said: dict[tuple[Kind, str], list[str]] = {}
    for entry, label in zip(scores.entries, labels, strict=True):
        for kind, text in _of(entry.scores):
            said.setdefault((kind, text), []).append(label)
    order = sorted(said, key=lambda note: ("void", "limit", "doubt").index(note[0]))
    return [Note(kind, listed(said[kind, text]), text) for kind, text in order]


def _of(scores: Scores) -> Iterator[tuple[Kind, str]]:
    for text in scores.broken:
        yield "void", text
    for text in scores.limits:
        yield "limit", text
    if scores.converged is False:
        yield "limit", "not converged: more epochs may still change its scores"
    for text in scores.reliability_warnings:
        yield "doubt", text
