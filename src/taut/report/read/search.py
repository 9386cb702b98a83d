"""A search as ``search.json`` tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taut.config.run_folder import SEARCH
from taut.report.read.files import Reader, number, word


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        job: The folder of its job.
        state: ``finished``, ``pruned``, ``failed`` or ``running``.
        values: Its scores, nats; None unless it is finished.
        params: Where it is on each axis: a number, or a choice in words.
        reason: Why it has failed.
    """

    job: str
    state: str
    values: Sequence[float] | None
    params: Mapping[str, float | str]
    reason: str = ""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Args:
        labels: What its scores are called, all of which are maximised.
        trials: Its trials, in the order in which they were proposed.
        ranges: The lowest and the highest value of the axes that are numbers.
        logarithmic: Those of them that are.
        choices: The choices of the axes that are categories.
        importance: For each score, the share of its variance that each axis explains.
        best: The command of the best trial, or of those that no other beats in every score, by its job.
        note: How trials are scored where that is not as it was asked for, and why the search ended early.
    """

    labels: Sequence[str]
    trials: Sequence[Trial]
    ranges: Mapping[str, tuple[float, float]]
    logarithmic: Sequence[str]
    choices: Mapping[str, Sequence[str]]
    importance: Sequence[Mapping[str, float]]
    best: Mapping[str, str]
    note: str = ""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "SearchResult":
        """What a file says.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: If it is not the file of a search.
        """
        axes = content["axes"]
        return cls(
            [str(label) for label in content["labels"]],
            [_trial(trial, len(content["labels"])) for trial in content["trials"]],
            {key: (float(axis["low"]), float(axis["high"])) for key, axis in axes.items() if "low" in axis},
            [key for key, axis in axes.items() if axis.get("log")],
            {key: [str(choice) for choice in axis["choices"]] for key, axis in axes.items() if "choices" in axis},
            [{str(key): float(share) for key, share in each.items()} for each in content["importance"]],
            {str(job): str(command) for job, command in content["best"].items()},
            str(content["note"]),
        )

    @property
    def values(self) -> dict[str, Sequence[float]]:
        """The scores of the finished trials, by their jobs."""
        return {trial.job: trial.values for trial in self.trials if trial.values is not None}

    @property
    def axes(self) -> list[str]:
        """The keys that are varied."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.params))


def read_search(folder: Path) -> SearchResult | None:
    """The search in the folder of a sweep; None if it is none, or its file cannot be read."""
    content = Reader(folder).mapping(SEARCH)
    try:
        return SearchResult.of(content) if content else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _trial(content: Mapping[str, Any], scores: int) -> Trial:
    params = {str(key): value if number(value) is not None else word(value) for key, value in content["params"].items()}
    values = None if content["values"] is None else [float(value) for value in content["values"]]
    if values is not None and len(values) != scores:
        raise ValueError("a trial has another number of scores")
    return Trial(str(content["job"]), str(content["state"]), values, params, word(content.get("reason")))
