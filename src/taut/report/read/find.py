"""Runs that lie in the folders a user names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from taut.config.run_folder import CHECKPOINTS, FIGURES, METRICS, OVERRIDES, PLAN, RESULT, STATUS, jobs_of
from taut.errors import UserError
from taut.report.read.files import Reader, word

DEEPEST = 3
"""Levels of folders that are searched for runs."""
SIGNS = (OVERRIDES, RESULT, STATUS, METRICS)
"""What a run may have left, in whatever state it is; to continue or to evaluate one takes its ``OVERRIDES``."""
SKIPPED = ("wandb", "mlartifacts", CHECKPOINTS, FIGURES, "evaluations")


@dataclass(frozen=True)
class Place:
    """Place of a run.

    Args:
        folder: Its folder.
        sweep: Name of the sweep it belongs to; empty for none.
        words: What the sweep starts it with.
    """

    folder: Path
    sweep: str = ""
    words: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """Runs and sweeps found in the folders a user named.

    Args:
        runs: Where the runs lie.
        sweeps: Folders of the sweeps.
        problems: Plans that could not be read.
    """

    runs: Sequence[Place]
    sweeps: Sequence[Path]
    problems: Sequence[str]


def find(folders: Sequence[Path]) -> Found:
    """Every run in some folders: runs, sweeps, and folders of either.

    Raises:
        UserError: If one of the folders is missing, or holds neither a run nor a sweep.
    """
    runs: dict[Path, Place] = {}
    sweeps: list[Path] = []
    problems: list[str] = []
    for folder in folders:
        sources = list(_sources(folder))
        if not sources:
            _refuse(folder)
        for one in dict.fromkeys(sources):
            if _is_sweep(one):
                sweeps.append(one)
            for place in _jobs(one, problems) if _is_sweep(one) else [Place(one)]:
                runs.setdefault(place.folder.resolve(), place)
    return Found(list(runs.values()), list(dict.fromkeys(sweeps)), list(dict.fromkeys(problems)))


def holds_run(folder: Path) -> bool:
    """Tell whether a run has left something in a folder."""
    return any((folder / sign).is_file() for sign in SIGNS)


def _refuse(folder: Path) -> NoReturn:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a directory; name the folder of a run, of a sweep, or of several runs.")
    raise UserError(
        f"{folder} is neither a run nor a sweep, and contains none; name a folder such as outputs/runs/<run>, "
        "outputs/sweeps/<sweep> or outputs/runs."
    )


def _is_sweep(folder: Path) -> bool:
    return (folder / PLAN).is_file()


def _sources(folder: Path, deepest: int = DEEPEST) -> Iterator[Path]:
    if _is_sweep(folder) or holds_run(folder):
        yield folder
    elif deepest:
        for child in _children(folder):
            yield from _sources(child, deepest - 1)


def _children(folder: Path) -> list[Path]:
    try:
        found = [one for one in folder.iterdir() if one.is_dir() and one.name not in SKIPPED and one.name[0] != "."]
    except OSError:
        return []
    return sorted(found)


def _jobs(sweep: Path, problems: list[str]) -> list[Place]:
    """The jobs of a plan in its order; where it cannot be read, the folders that hold runs."""
    reader = Reader(sweep)
    listed = jobs_of(reader.mapping(PLAN))
    jobs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    named = {word(one.get("folder")): one.get("words") for one in jobs if word(one.get("folder"))}
    # a plan that others wrote may not lead out of the folder of its sweep
    inside = {name: words for name, words in named.items() if Path(name).name == name and name != ".."}
    problems += [f"{sweep.name}/{problem}" for problem in reader.problems]
    if not inside:
        return [Place(child, sweep.name) for child in _children(sweep) if holds_run(child)]
    return [Place(sweep / name, sweep.name, words if isinstance(words, list) else []) for name, words in inside.items()]
