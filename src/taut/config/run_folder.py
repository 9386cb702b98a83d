"""The layout of a run folder: what its files are called, whether a folder is one, and the one writer of its results."""

import json
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from taut.config.foreign import check_entries, read_object
from taut.config.program import typed
from taut.errors import UserError
from taut.files import CHECKPOINTS, METRICS, RESULT, read_regular, sole_writer, write_json

__all__ = [
    "BEST",
    "CHECKPOINTS",
    "CHOICES",
    "CONFIG",
    "EARLIER_RESULT",
    "FIGURES",
    "FORMAT",
    "FORMAT_FILE",
    "HYDRA",
    "LOCK",
    "LOG",
    "METRICS",
    "OVERRIDES",
    "PLAN",
    "RESULT",
    "RESUMED_CONFIG",
    "RESUMED_OVERRIDES",
    "SEARCH",
    "STATUS",
    "Description",
    "choice_made",
    "choice_of",
    "config_of",
    "is_run",
    "jobs_of",
    "read_result",
    "refuse_other_folder",
    "refuse_run",
    "sole_writer_of",
    "versions",
    "write_format",
    "write_result",
]

FORMAT = 3
"""Version of what a run folder holds: its files, ``result.json``, and the keys of its config.

A folder without a number is older than the first. Format 2 has keys for the limits of Lightning's trainer and for how a
table is written, format 3 for the weights a run starts from and the search of its learning rate.
"""
FORMAT_FILE = "run.json"
"""The format of a run folder, written before its first epoch."""
EARLIER_RESULT = "result.earlier.json"
"""The result of a run that was finished and then continued."""
BEST = f"{CHECKPOINTS}/best.ckpt"
FIGURES = "figures"

HYDRA = ".hydra"
OVERRIDES = f"{HYDRA}/overrides.yaml"
"""The words a run was started with, which are never rewritten."""
CONFIG = f"{HYDRA}/config.yaml"
"""The config that those words composed."""
CHOICES = f"{HYDRA}/hydra.yaml"
"""What Hydra knows of the run, the choice of each config group among it."""
RESUMED_OVERRIDES = f"{HYDRA}/resumed.yaml"
"""The words that continuations added."""
RESUMED_CONFIG = f"{HYDRA}/resumed_config.yaml"
"""The config with those words, where there were any."""

WRITER = ".writer"
"""The lock that a command holds while it writes to a run folder; the name of the output stands behind it."""
DESCRIPTION = (HYDRA, "train.log", FORMAT_FILE, "wandb/id", "mlflow/id", "tensorboard")
"""What a run writes before its first epoch."""

PLAN = "sweep.json"
"""What a sweep consists of, in the folder of the sweep."""
SEARCH = "search.json"
"""What a search has found, in the folder of its sweep."""
STATUS, LOG, LOCK = "status.json", "log.txt", ".lock"
"""How far a job of a sweep has come, all it said, and the lock that the process watching over it holds."""


def jobs_of(plan: Mapping[str, Any]) -> Any:
    """What a sweep's plan says of its jobs, which were ``members`` before format 2 of result files."""
    return plan["jobs"] if "jobs" in plan else plan.get("members")


def is_run(folder: Path) -> bool:
    """Tell whether Hydra has described a run there; it writes the overrides last, and never nothing."""
    path = folder / OVERRIDES
    # a process killed in between leaves an empty file
    return path.is_file() and path.stat().st_size > 0


def refuse_run(folder: Path) -> None:
    """Refuse a folder that holds a run, for one that is to be started.

    Raises:
        UserError: If it does.
    """
    if is_run(folder):
        raise UserError(f"{folder} holds a run already; continue it with resume=, or choose another hydra.run.dir.")


def refuse_other_folder(folder: Path, said: str) -> None:
    """Refuse a folder that is not that of a run, or that a newer taut wrote.

    Args:
        folder: Where it is.
        said: What the user said, e.g. ``run=outputs/runs/a``.

    Raises:
        UserError: If it is another folder, or none, or of a format that this version does not know, or damaged, or
            if something in it leads elsewhere.
    """
    if not folder.exists():
        raise UserError(f"{said} is not the folder of a run: there is no such folder.")
    if not is_run(folder):
        raise UserError(f"{said} is not the folder of a run: its {OVERRIDES} is missing.")
    check_entries(folder, said)
    format_ = read_object(folder / FORMAT_FILE).get("format", FORMAT)
    again = f"{typed('train')} resume=<run>"
    read_object(folder / RESULT, f"restore it, or remove it and have the run tested again: {again}")
    if not isinstance(format_, int) or format_ > FORMAT:
        raise UserError(
            f"{said} has format {format_!r} ({FORMAT_FILE}), and taut {version('taut')} reads formats up to {FORMAT}; "
            "use the version that wrote it, or a newer one."
        )


@contextmanager
def sole_writer_of(folder: Path, output: str = "") -> Iterator[None]:
    """Be the only process that trains in a run folder, or that writes one of its outputs.

    Args:
        folder: The run folder; it must exist.
        output: The name of the output; empty for the training itself.

    Raises:
        UserError: If another process is at it, or nothing can be written there.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(sole_writer(folder / f"{WRITER}{output and f'.{output}'}"))
        except BlockingIOError:
            what = f"{output} of {folder}" if output else str(folder)
            raise UserError(
                f"Another process is writing to {what}, which has one writer at a time; wait for it, end it, or choose "
                f"another {'output' if output else 'folder (hydra.run.dir=)'}."
            ) from None
        except PermissionError as error:
            raise UserError(f"{folder} is not writable; copy the run folder, or change its permissions.") from error
        yield


@dataclass(frozen=True)
class Description:
    """What a folder that is not new held of a run before a command described its own there.

    Args:
        before: Those of ``DESCRIPTION`` that were there.
    """

    before: frozenset[str] = frozenset(DESCRIPTION)

    @classmethod
    def of(cls, folder: Path) -> "Description":
        """For a folder that a run is about to be described in."""
        return cls(frozenset(name for name in DESCRIPTION if (folder / name).exists()))

    def take_back(self, folder: Path) -> None:
        """Remove the description of a run that was refused, unless it has trained."""
        if any((folder / name).exists() for name in (CHECKPOINTS, METRICS, RESULT)):
            return
        for path in (folder / name for name in DESCRIPTION if name not in self.before):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
                with suppress(OSError):  # the run folder itself, or one that holds more
                    path.parent.rmdir()


def config_of(folder: Path) -> Path:
    """The config file that describes a run as it stands, with what continuations changed."""
    resumed = folder / RESUMED_CONFIG
    return resumed if resumed.exists() else folder / CONFIG


def choice_of(target: str) -> str:
    """The choice on the command line that a class stands for, e.g. ``bottom_half`` for ``...regions.BottomHalf``.

    By the class and not by its file, since a file may hold several.
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(".")[2]).lower()
    return {"mixture_of_gaussians": "mog"}.get(name, name)


def choice_made(group: str, choice: str, words: Iterable[str]) -> str:
    """The choice of a group as a run is named by it: the class where the words put one in its place.

    Args:
        group: The config group.
        choice: What the config says was chosen.
        words: The words of the command line, such as ``prior._target_=mylab.Student``.
    """
    named = [
        value for key, _, value in (word.partition("=") for word in words) if key.lstrip("+") == f"{group}._target_"
    ]
    return choice_of(named[-1].strip("'\"")) if named else choice


def read_result(folder: Path) -> dict[str, Any]:
    """The ``result.json`` of a run, of an evaluation or of a completion; empty if there is none that can be read."""
    return _mapping(folder / RESULT)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):  # not there, or cut short by a copy
        return {}
    return content if isinstance(content, dict) else {}


def versions(*others: str) -> dict[str, str]:
    """The versions of taut, of the libraries under it and of Python, as every result states them.

    Args:
        others: Further distributions that the numbers depend on.
    """
    names = ("taut", "torch", "lightning", "hydra-core", *others)
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``result.json`` with its format, atomically; every command that measures something ends here.

    Raises:
        ValueError: If there is a NaN or an infinity.
    """
    write_json(folder / RESULT, {"format": FORMAT, **result})


def write_format(folder: Path, **facts: str | None) -> None:
    """Say of what format a run folder is, before anything else of the run is written there.

    Args:
        folder: The run folder.
        facts: ``debug``, what the run looks for faults by, and ``started``, where its first weights are from; None
            where there is nothing to say.
    """
    known = {name: fact for name, fact in facts.items() if fact is not None}
    write_json(folder / FORMAT_FILE, {"format": FORMAT, "taut": version("taut"), **known})
