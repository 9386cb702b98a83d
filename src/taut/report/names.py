"""Short names for runs: what tells them from one another, in the words of the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taut.report.configs import differing
from taut.report.files import legible
from taut.report.runs import CHOICES, Run

VALUE_ALONE = (*CHOICES, "binarisation")
"""Words whose value says what they are."""
LONGEST = 56
"""Letters of a name; where what tells the runs apart takes more, the names of their folders are better ones."""
REPEATS = ("seed", "data.seed")
"""What runs differ in that are the same run again."""


@dataclass(frozen=True)
class Names:
    """How runs are called.

    Args:
        labels: One short name for each run, all different.
        series: For each run, what it shares with its repetitions and with runs of another k.
        varied: What they differ in: for each key, the word of every run; empty where a run has none.
    """

    labels: Sequence[str]
    series: Sequence[str]
    varied: Mapping[str, Sequence[str]]


def names_of(runs: Sequence[Run]) -> Names:
    """Short names for some runs."""
    varied = _without_repeats(differing([run.about for run in runs]))
    order = sorted(varied, key=lambda name: (*_place(name), name))
    varied = {name: varied[name] for name in order}
    labels = [_words(varied, index, ()) or run.name for index, run in enumerate(runs)]
    if max(map(len, labels), default=0) > LONGEST:
        labels = [run.name for run in runs]
    labels = [run.name if labels.count(label) > 1 else label for run, label in zip(runs, labels, strict=True)]
    labels = [
        legible(run.folder) if labels.count(label) > 1 else label for run, label in zip(runs, labels, strict=True)
    ]
    series = [
        _words(varied, index, ("k", *REPEATS)) or run.about.get("model", "runs") for index, run in enumerate(runs)
    ]
    return Names(labels, series, varied)


def shared_words(names: Names, runs: Sequence[int], without: Sequence[str]) -> list[str]:
    """What some of the runs have in common and others have not, in the words of the command line.

    Args:
        names: What all runs are called.
        runs: The places of some of them.
        without: Keys to leave out.
    """
    kept = {name: {values[run] for run in runs} for name, values in names.varied.items() if name not in without}
    return [_word(name, *found) for name, found in kept.items() if len(found) == 1 and found != {""}]


def _place(name: str) -> tuple[int, int]:
    order = ("data", "binarisation", "mask", "model", "prior", "q", "likelihood", "objective")
    if name in order:
        return 0, order.index(name)
    return (2, ("k", *REPEATS).index(name)) if name in ("k", *REPEATS) else (1, 0)


def _without_repeats(varied: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Without the objective where the model settles it, and without keys that only say a choice again."""
    kept = dict(varied)
    if "objective" in kept and "model" in kept and _settled(kept["model"], kept["objective"]):
        del kept["objective"]
    for name in [name for name in kept if "." in name and name.split(".")[0] in kept]:
        if _settled(kept[name.split(".")[0]], kept[name]):
            del kept[name]
    kept.pop("data.binarisation", None)
    return kept


def _settled(by: Sequence[str], values: Sequence[str]) -> bool:
    return len(set(zip(by, values, strict=True))) == len(set(by))


def _words(varied: Mapping[str, Sequence[str]], index: int, without: Sequence[str]) -> str:
    words = []
    for name, values in varied.items():
        value = values[index]
        if value and name not in without:
            words.append(_word(name, value))
    return " ".join(words)


def _word(name: str, value: str) -> str:
    return value if name in VALUE_ALONE else f"{name.rpartition('.')[2]}={value}"
