"""Going on with a run from its folder: the words it was started with, and whether there is anything left to do."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from taut.config.aliases import current_targets, current_word
from taut.config.check import check_yaml
from taut.config.overrides import key, merged, quoted
from taut.config.run_folder import (
    CONFIG,
    EARLIER_RESULT,
    OVERRIDES,
    RESULT,
    RESUMED_OVERRIDES,
    is_run,
    read_result,
    refuse_other_folder,
)
from taut.errors import UserError
from taut.files import write_atomically

__all__ = ["Past", "is_run", "of_a_sweep", "quoted", "read", "refuse_changed_config"]


@dataclass(frozen=True)
class Past:
    """A run folder that is to be continued.

    Args:
        folder: The run folder, absolute.
        stored: The overrides it was started with, from ``.hydra/overrides.yaml``, which is never rewritten.
        added: Overrides of earlier continuations, kept in ``.hydra/resumed.yaml``.
        new: Overrides of this continuation.
    """

    folder: Path
    stored: list[str]
    added: list[str]
    new: list[str]

    @property
    def finished(self) -> bool:
        """Tell whether the run has written its result and nothing new is asked of it."""
        if self.new:
            return False
        return read_result(self.folder).get("status") == "finished"

    @property
    def overrides(self) -> list[str]:
        """The command line that continues the run, without touching its ``.hydra``."""
        place = quoted(str(self.folder))
        words = merged(merged(self.stored, self.added), self.new)
        return [
            *words,
            f"resume={place}",
            f"hydra.run.dir={place}",
            "hydra.output_subdir=null",
            "hydra.mode=RUN",
        ]

    def begin(self) -> None:
        """Keep the new overrides for the next continuation and set the result aside that they make obsolete."""
        if self.new:
            write_atomically(self.folder / RESUMED_OVERRIDES, yaml.safe_dump(merged(self.added, self.new)))
            if (self.folder / RESULT).exists():
                os.replace(self.folder / RESULT, self.folder / EARLIER_RESULT)

    def take_back(self) -> None:
        """Undo ``begin`` when the continuation was refused."""
        if self.new:
            write_atomically(self.folder / RESUMED_OVERRIDES, yaml.safe_dump(self.added))
            if (self.folder / EARLIER_RESULT).exists() and not (self.folder / RESULT).exists():
                os.replace(self.folder / EARLIER_RESULT, self.folder / RESULT)


def is_asked(words: list[str]) -> bool:
    """Tell whether there is a word ``resume=`` among the overrides."""
    return any(key(word) == "resume" for word in words)


def read(words: list[str]) -> Past | None:
    """The run that ``resume=<folder>`` names among the overrides, if it is there and not null.

    Raises:
        UserError: If the folder is not that of a run.
    """
    named = [word for word in words if key(word) == "resume"]
    value = named[-1].partition("=")[2].strip("'\"") if named else ""
    if value in ("", "null"):
        return None
    folder = Path(value).expanduser().resolve()
    refuse_other_folder(folder, f"resume={value}")
    new = [word for word in words if word not in named]
    return Past(folder, _words(folder / OVERRIDES), _words(folder / RESUMED_OVERRIDES), new)


def of_a_sweep(words: list[str]) -> tuple[str | None, list[str]]:
    """Value of ``resume=`` for a sweep, ``true``, ``merge`` or nothing, and the words without it.

    Raises:
        UserError: If it is something else.
    """
    value = ([word.partition("=")[2] for word in words if key(word) == "resume"] or ["null"])[-1]
    if value not in ("true", "merge", "false", "null"):
        raise UserError(
            f"resume={value} continues one run; a sweep takes resume=true (run failed jobs again) or resume=merge "
            "(and add jobs)."
        )
    return value if value in ("true", "merge") else None, [word for word in words if key(word) != "resume"]


def refuse_changed_config(past: Past, compose: Callable[[list[str]], DictConfig]) -> None:
    """Refuse to continue under configs that are no longer those of the run.

    Raises:
        UserError: Naming the first key that differs.
    """
    path = past.folder / CONFIG
    # a run folder may come from somebody else: its aliases must not fill the memory
    check_yaml(path)
    # unresolved on both sides: values of the environment and times differ by nature
    then = current_targets(OmegaConf.to_container(OmegaConf.load(path)))
    now = OmegaConf.to_container(compose(past.stored))
    changed = _difference(then, now)
    if changed:
        raise UserError(
            f"The configs changed since {past.folder.name} was started: {changed} is no longer what it was; restore "
            "them, or start a new run."
        )


def _words(path: Path) -> list[str]:
    if not path.exists():
        return []
    check_yaml(path)
    words = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{path} is damaged: it should be a list of overrides.")
    return [current_word(word) for word in words if key(word) != "resume"]


def _difference(then: Any, now: Any, path: str = "") -> str:
    """Dotted key of the first difference, in the order of ``now``; empty if there is none."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        # NaN differs from itself
        return "" if then == now or (then != then and now != now) else path
    for name in [*now, *(name for name in then if name not in now)]:
        below = f"{path}.{name}" if path else str(name)
        if below == "resume":
            continue
        changed = below if (name in then) != (name in now) else _difference(then[name], now[name], below)
        if changed:
            return changed
    return ""
