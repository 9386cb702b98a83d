"""Candidates of a comparison: scores of the same data made the same way, of single runs or of settings over seeds."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Literal

import numpy as np

from taut.report.rank.significance import moments
from taut.report.read.configs import differing, settings
from taut.report.read.files import OF, word
from taut.report.read.runs import REPEATS, Run, names_of
from taut.report.read.scores import Bracket, Score, Scores

FAMILIES = 80
"""Letters of the families of a table's columns that a heading holds."""
Source = Literal["test", "evaluation"]


@dataclass(frozen=True)
class Entry:
    """A run and its scores in one set of comparable ones."""

    run: Run
    scores: Scores


@dataclass(frozen=True)
class ScoreSet:
    """Scores that can be compared with one another, and with no others.

    Args:
        source: The test at the end of each run, or an evaluation.
        key: What they have in common.
        entries: One for each run, and one more for each further evaluation of it.
    """

    source: Source
    key: Mapping[str, str]
    entries: Sequence[Entry]

    @cached_property
    def about(self) -> Mapping[str, str]:
        """What the scores are of and how they were made; several words of one thing as ``component or gaussian``."""
        told = [entry.scores.about for entry in self.entries]
        names = dict.fromkeys(name for about in told for name in about)
        return {name: " or ".join(sorted({about[name] for about in told if about.get(name)})) for name in names}

    @property
    def title(self) -> str:
        """Subject of the scores, and when they were made."""
        return f"{'Test' if self.source == 'test' else 'Evaluation'}: {self.heading}"

    @property
    def heading(self) -> str:
        """Subject of the scores."""
        about = self.about
        parts = [about["data"], f"binarisation {about['binarisation']}", f"{about['likelihood']} likelihood"]
        if about["families"]:
            parts.append(word(about["families"], FAMILIES))
        if about["mask"] not in ("none", "unknown"):
            parts.append(f"mask {about['mask']}")
        if about["cells"] in OF:
            parts.append(f"{about['cells']} cells")
        return ", ".join(parts)

    @property
    def details(self) -> str:
        """Settings of the scores."""
        about = self.about
        runs = "run" if len({id(entry.run) for entry in self.entries}) == 1 else "runs"
        same = (
            f" of other data than those of the {runs}" if self.other_data else " (training rows)" if self.fitted else ""
        )
        n = int(about["n"]) if about["n"].isdigit() else 0
        k = about.get("k_test") or about.get("k", "unknown")
        return f"{about['split']} split{same}, {n:,} data, K = {k}, {about['precision']}"

    @property
    def other_data(self) -> bool:
        """Whether the rows are of other data than those of the runs, so that nobody knows if any was fitted."""
        return "true" in self.about.get("other_data", "").lower()

    @property
    def fitted(self) -> bool:
        """Whether the rows are those that were fitted, as far as that is known."""
        return self.about["held_out"].lower() == "false" and not self.other_data

    @property
    def split(self) -> str:
        """The rows that were scored, as the heads of columns say it."""
        if self.fitted:
            return "training rows"
        return {"val": "validation"}.get(self.about["split"], self.about["split"])

    @property
    def digest(self) -> str:
        """The first digits of the digest of the data."""
        return self.about["data_digest"][:12]


def score_sets(runs: Sequence[Run]) -> list[ScoreSet]:
    """Every set of comparable scores: tests before evaluations, larger ones first."""
    groups: dict[tuple[Source, tuple[tuple[str, str], ...]], list[Entry]] = defaultdict(list)
    for run in runs:
        if run.tested is not None:
            groups["test", tuple(run.tested.key.items())].append(Entry(run, run.tested))
        for scores in run.evaluations.values():
            groups["evaluation", tuple(scores.key.items())].append(Entry(run, scores))
    sets = [ScoreSet(source, dict(key), entries) for (source, key), entries in groups.items()]
    return sorted(sets, key=lambda scores: (scores.source != "test", -len(scores.entries)))


Pick = Callable[[Scores], Score | None]


@dataclass(frozen=True)
class Candidate:
    """Trainings that differ in the seed alone, or a single trained model.

    Args:
        entries: One for each training, and one more for each further evaluation of it.
    """

    entries: Sequence[Entry]

    @cached_property
    def by_seed(self) -> dict[tuple[str, ...], list[Entry]]:
        """The entries of each seed."""
        found: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(tuple(_all(entry.run).get(name, "") for name in REPEATS), []).append(entry)
        return found

    @property
    def seeds(self) -> int:
        """Number of different seeds."""
        return len(self.by_seed)

    def values(self, pick: Pick) -> list[float]:
        """A score for each seed, nats; none at all where one of the seeds lacks it, as what is left would flatter."""
        picked = [[pick(entry.scores) for entry in entries] for entries in self.by_seed.values()]
        known = [[score.value for score in scores if score is not None] for scores in picked]
        if any(len(values) < len(scores) for values, scores in zip(known, picked, strict=True)):
            return []
        return [fmean(values) for values in known]

    def score(self, pick: Pick) -> Score | None:
        """The mean over the seeds, without an error over the data; the score itself where there is one entry."""
        if len(self.entries) == 1:
            return pick(self.entries[0].scores)
        values = self.values(pick)
        if not values:
            return None
        found = [score for entry in self.entries if (score := pick(entry.scores)) is not None]
        kinds = {score.kind for score in found}
        reliability_warnings = tuple(dict.fromkeys(doubt for score in found for doubt in score.reliability_warnings))
        return Score(
            fmean(values),
            kind=kinds.pop() if len(kinds) == 1 else "estimate",
            reliability_warnings=reliability_warnings,
        )

    def bracket(self, pick: Callable[[Scores], Bracket | None]) -> Bracket | None:
        """The mean of both ends over the seeds; the upper one only where all of them have it."""
        if len(self.entries) == 1:
            return pick(self.entries[0].scores)
        low = self.score(lambda scores: found.low if (found := pick(scores)) else None)
        high = self.score(lambda scores: found.ceiling if (found := pick(scores)) else None)
        if low is None:
            return None
        exact = all((found := pick(entry.scores)) is not None and found.exact for entry in self.entries)
        return Bracket(low, None if exact else high, exact)

    def spread(self, pick: Pick) -> float | None:
        """Standard deviation over the seeds; ``None`` for a single one."""
        values = self.values(pick)
        return float(moments(np.array([values]))[1][0]) if len(values) > 1 else None


def singles(entries: Sequence[Entry]) -> list[Candidate]:
    """Every entry by itself."""
    return [Candidate([entry]) for entry in entries]


def settings_of(entries: Sequence[Entry]) -> list[Candidate]:
    """Entries by the settings of their runs, the seed aside, in the order in which they first come."""
    found: dict[tuple[tuple[str, str], ...], list[Entry]] = {}
    for entry in entries:
        found.setdefault(tuple(sorted(_unseeded(_all(entry.run)).items())), []).append(entry)
    return [Candidate(group) for group in found.values()]


def labels_of(candidates: Sequence[Candidate]) -> list[str]:
    """Names of settings: as their runs, without the seed; with keys of the config where nothing else differs."""
    firsts = [candidate.entries[0].run for candidate in candidates]
    abouts = [_unseeded(run.about) for run in firsts]
    alike = [[place for place, other in enumerate(abouts) if other == about] for about in abouts]
    for name, values in differing([_unseeded(settings(run.config)) for run in firsts]).items():
        if any(len({values[place] for place in places}) > 1 for places in alike):
            abouts = [about | {name: value} for about, value in zip(abouts, values, strict=True)]
    return list(names_of([replace(run, about=about) for run, about in zip(firsts, abouts, strict=True)]).labels)


def _unseeded(words: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in words.items() if name not in REPEATS}


def _all(run: Run) -> dict[str, str]:
    """Its choices, and every setting of its config."""
    return {**settings(run.config), **run.about}
