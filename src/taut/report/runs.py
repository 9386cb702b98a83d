"""One run as its folder tells it: state, scores, history, config, pictures."""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from taut.report.configs import flat, keys_given
from taut.report.files import Reader, legible, number, part, whole, word
from taut.report.scores import Scores, void_of
from taut.secret import redacted_by_name

STATES = ("failed", "interrupted", "running", "unfinished", "queued", "unknown", "finished")
CHOICES = ("model", "data", "prior", "q", "likelihood", "objective")
LONGEST_REASON = 500
MOST_FOLDERS = 20
"""Evaluations and completions that are read of one run."""

Rows = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Run:
    """What is known of one run.

    Args:
        folder: Its folder.
        state: One of ``STATES``; ``unfinished`` is a run outside a sweep without a result: running, or stopped.
        reason: Why it failed or waits; empty where nothing is known.
        log: The file in its folder with what it said; empty where there is none.
        about: Its choices, ``binarisation``, ``mask``, ``k``, ``seed`` and the words it was given, by key.
        config: Its config with flat keys, unresolved, secrets hidden.
        validation: The best validation bound, nats.
        seconds: Of the training and its tests, or of the process.
        tested: The test at its end.
        evaluations: By folder, what ``evaluate.py`` found.
        history: The rows of ``metrics.csv``.
        epochs: Epochs done.
        versions: Of the libraries, and the digest of the data.
        pictures: By kind, the files.
        problems: Files that could not be read.
    """

    folder: Path
    state: str
    reason: str = ""
    log: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    validation: float | None = None
    seconds: float | None = None
    tested: Scores | None = None
    evaluations: Mapping[str, Scores] = field(default_factory=dict)
    history: Rows = ()
    epochs: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of its folder."""
        return legible(self.folder.name)

    @property
    def scored(self) -> bool:
        """Whether it was tested or evaluated."""
        return self.tested is not None or bool(self.evaluations)

    @property
    def problem(self) -> str:
        """What its bounds are of, as far as its config says."""
        about = self.about
        words = [about.get("data"), about.get("binarisation"), about.get("likelihood")]
        masked = about.get("mask", "none") not in ("none", "null")
        return ", ".join([word for word in words if word] + ([f"mask {about['mask']}"] if masked else []))

    @cached_property
    def k(self) -> int | None:
        """Importance samples of the training objective."""
        return whole(self.about.get("k"))


def read_run(folder: Path, words: Sequence[str] = (), *, member: bool = False) -> Run:
    """Everything a report says of one run; what cannot be read is listed among its problems.

    Args:
        folder: Its folder, which need not exist for a member that waits.
        words: What a sweep started it with, where it has no config of its own yet.
        member: Whether it belongs to a sweep: without a status it then waits.
    """
    reader = Reader(folder)
    result, status = reader.mapping("result.json"), reader.mapping("status.json")
    config = flat(reader.yaml(".hydra/config.yaml"))
    given = keys_given(reader.yaml(".hydra/overrides.yaml") or list(words))
    history = reader.rows("metrics.csv")
    below = _below(reader, result)
    state = _state(folder, result, status, member)
    log = word(status.get("log")) or "log.txt"
    return Run(
        folder,
        state,
        _reason(status, state),
        log if log == Path(log).name and (folder / log).is_file() else "",
        _about(result, config, given),
        config,
        _validation(result, status, history),
        _seconds(result, status),
        Scores.tested(result),
        {place: found for place, found in below.items() if found is not None},
        history,
        whole(result.get("epochs")) or (int(history[-1].get("epoch", -1)) + 1 if history else None),
        _versions(result),
        _pictures(folder),
        reader.problems,
    )


def _below(reader: Reader, tested: Mapping[str, Any]) -> dict[str, Scores | None]:
    """What ``evaluate.py`` left in folders of any name; doubted where it is of other weights than the test."""
    found = {}
    for path in sorted(reader.folder.glob("[!.]*/result.json"))[:MOST_FOLDERS]:
        place = path.parent.name
        result = reader.mapping(f"{place}/result.json")
        if "evidence" in result:
            scores = Scores.evaluated(result, f"{place}/data.csv")
            found[place] = scores and _of_other_weights(scores, _step(result), _step(tested))
    return found


def _step(result: Mapping[str, Any]) -> int | None:
    """The training step of the weights that were scored."""
    return whole(part(result, "checkpoint").get("step"))


def _of_other_weights(scores: Scores, evaluated: int | None, tested: int | None) -> Scores:
    if evaluated is None or tested is None or evaluated == tested:
        return scores
    sentence = (
        f"evaluated with the weights of step {evaluated:,}, and the run now ends with those of step {tested:,}; "
        "evaluate it again."
    )
    return replace(scores, doubts=(sentence, *scores.doubts))


def _state(folder: Path, result: Mapping[str, Any], status: Mapping[str, Any], member: bool) -> str:
    said = word(status.get("state"))
    if said == "running":
        return "running" if _held(folder / ".lock") else "interrupted"
    if said in ("queued", "finished", "failed"):
        return said
    if (folder / "status.json").exists():
        return "unknown"
    if member:
        return "queued"
    return "finished" if result.get("status") == "finished" else "unfinished"


def _held(path: Path) -> bool:
    """Whether a process holds the lock of a member: its supervisor, or what that started."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _reason(status: Mapping[str, Any], state: str) -> str:
    said = redacted_by_name(word(status.get("reason"), LONGEST_REASON))
    return said or ("its process is gone; the same command goes on with it" if state == "interrupted" else "")


def _about(result: Mapping[str, Any], config: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What it is made of, in the words of the command line: of the result, or of the config, or of its words."""
    targets = {name: config.get(f"{name}._target_", "").split(".") for name in (*CHOICES, "mask")}
    chosen = {name: parts[-2] for name, parts in targets.items() if len(parts) > 1}
    scalars = {name: config[key] for name, key in SCALARS.items() if key in config}
    told = {name: word(result.get(name)) for name in (*CHOICES, "binarisation", "mask", "k", "seed")}
    return {**given, **{name: config[name] for name in given if name in config}, **chosen, **scalars} | {
        name: value for name, value in told.items() if value
    }


SCALARS = {"k": "k", "seed": "seed", "binarisation": "data.binarisation"}


def _validation(result: Mapping[str, Any], status: Mapping[str, Any], history: Rows) -> float | None:
    if void_of(part(result, "validation")):
        return None
    bounds = [row["val/bound"] for row in history if "val/bound" in row]
    known = number(part(result, "validation").get("bound"))
    known = number(status.get("score")) if known is None else known
    return max(bounds, default=None) if known is None else known


def _seconds(result: Mapping[str, Any], status: Mapping[str, Any]) -> float | None:
    said = number(status.get("seconds"))
    parts = [number(value) for value in part(result, "seconds").values()]
    return said if said is not None else sum(one for one in parts if one is not None) if parts else None


def _versions(result: Mapping[str, Any]) -> dict[str, str]:
    found = {word(name): word(value) for name, value in part(result, "versions").items()}
    data = f"{word(result.get('data'))}, {word(result.get('binarisation'))}"
    return found | ({"data digest": f"{word(result['data_digest'])} ({data})"} if result.get("data_digest") else {})


def _pictures(folder: Path) -> dict[str, Path]:
    """By kind, which is the name of the file and, for those of evaluations and completions, that of the folder."""
    found = {path.stem: path for path in sorted(folder.glob("figures/*.png"))}
    for path in sorted(folder.glob("[!.]*/figures/*.png")):
        place = path.parent.parent.name
        found[f"{place}: {path.stem}"] = path
    return found
