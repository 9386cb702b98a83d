"""Going on with a run from its folder: the words it was started with, and whether there is anything left to do."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from taut.config.aliases import current_targets, current_word
from taut.config.check import EM, GAINED
from taut.config.checkpoint_files import ANEW, refuse_to_start_anew
from taut.config.data_paths import as_typed, located
from taut.config.foreign import read_metrics, read_object
from taut.config.instantiate import check_targets, default_of
from taut.config.logger_keys import GROUP
from taut.config.overrides import key, merged, quoted
from taut.config.pieces import NeedsTrust
from taut.config.plain_yaml import read_config, read_values
from taut.config.program import conf
from taut.config.run_folder import (
    CONFIG,
    EARLIER_RESULT,
    FORMAT,
    FORMAT_FILE,
    METRICS,
    OVERRIDES,
    RESULT,
    RESUMED_CONFIG,
    RESUMED_OVERRIDES,
    config_of,
    is_run,
    read_result,
    refuse_other_folder,
)
from taut.config.trust import check_words, is_hydras
from taut.errors import UserError
from taut.files import write_atomically

__all__ = ["Past", "is_run", "of_a_sweep", "quoted", "read", "record", "refuse_other_run", "unchanged_config"]


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
    def known(self) -> list[str]:
        """The words of the run as it stands, with those of earlier continuations."""
        return merged(self.stored, self.added)

    @property
    def overrides(self) -> list[str]:
        """The command line that continues the run, without touching its ``.hydra``.

        Raises:
            UserError: If the data are no longer found.
        """
        place = quoted(str(self.folder))
        cfg = read_config(config_of(self.folder))
        places = located(self.folder, cfg, {key(word) for word in self.new})
        moved = [f"{name}={quoted(where)}" for name, where in places.items()]
        return [
            *merged(merged(self.known, moved), self.new),
            f"resume={place}",
            f"hydra.run.dir={place}",
            "hydra.output_subdir=null",
            "hydra.mode=RUN",
        ]


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
    new = as_typed([word for word in words if key(word) not in ("resume", ANEW)])
    past = Past(folder, _words(folder / OVERRIDES), _words(folder / RESUMED_OVERRIDES), new)
    if not past.finished:
        if (folder / METRICS).exists():
            read_metrics(folder / METRICS)  # a damaged one would end the training
        refuse_to_start_anew(folder, asked=_is_true(words, ANEW))
    return past


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


def record(folder: Path, words: Sequence[str], cfg: DictConfig) -> None:
    """Write down what a run goes on with; called once nothing can refuse it any more.

    Args:
        folder: The run folder.
        words: All words of the task: those it was started with, and those of continuations.
        cfg: The config they compose.
    """
    stored = _words(folder / OVERRIDES)
    # without Hydra's own, which only the user may type
    added = [word for word in words if word not in stored and key(word) != "resume" and not is_hydras(word)]
    if added or (folder / RESUMED_OVERRIDES).exists():
        write_atomically(folder / RESUMED_OVERRIDES, yaml.safe_dump(added))
    # beside config.yaml, which stays what the run was started with
    write_atomically(folder / RESUMED_CONFIG, OmegaConf.to_yaml(cfg))
    if (folder / RESULT).exists():
        os.replace(folder / RESULT, folder / EARLIER_RESULT)


def unchanged_config(past: Past, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    """The config of the run as it stands, composed again, if the configs are still those it was started with.

    Raises:
        UserError: Naming the first key that differs, or the packages that the user has to name first.
    """
    # unresolved on both sides: values of the environment and times differ by nature
    then = current_targets(OmegaConf.to_container(read_config(past.folder / CONFIG)))
    # before composing, where the choices that a package brings may be unknown
    _refuse_untrusted(past.folder)
    composed = compose(past.stored)
    now = OmegaConf.to_container(composed)
    older = read_object(past.folder / FORMAT_FILE).get("format", 0) < FORMAT
    changed = next(
        (
            name
            for name in _differences(then, now)
            # a logger only watches, and older configs describe one without a name
            if not _is_of(name, [GROUP]) and not (_lacks(then, name) and (older or _is_gained(then, composed, name)))
        ),
        None,
    )
    if changed:
        raise UserError(
            f"The configs changed since {past.folder.name} was started: {changed} is no longer what it was; restore "
            "them, or start a new run."
        )
    return compose(past.known) if past.added else composed


def _refuse_untrusted(folder: Path) -> None:
    try:
        check_targets(current_targets(OmegaConf.to_container(read_config(config_of(folder)))))
    except NeedsTrust as error:
        raise error.of_run(folder.name) from error
    except UserError:  # judged with its interpolations resolved, once it is composed
        return


def _is_gained(then: Any, composed: DictConfig, name: str) -> bool:
    """Tell whether a key that a run lacks is one that taut has gained, at the value by which it does what it did."""
    if _may_change(name):
        return True
    group, _, leaf = name.rpartition(".")
    value = _plain_value(OmegaConf.select(composed, name, throw_on_resolution_failure=False))
    if not group:
        return leaf in GAINED and value == read_values(conf() / "train.yaml").get(leaf)
    target = _value(then, f"{group}._target_")
    return isinstance(target, str) and value == _plain_value(default_of(target, leaf))


MAY_CHANGE = (
    *("trainer", "optimizer", "scheduler", "callbacks", "logger", "launcher", "sweep"),
    *("threads", "matmul", "k_eval", "k_test", "objective.tolerance", "objective.backward"),
    *("data.path", "data.dir", "mask.path"),
)
"""What a continuation may say anew: how far, how fast, where and by what steps a run trains, and where its data are."""
MAY_NOT = ("optimizer._target_", "callbacks.best")
"""Exceptions: the state of one optimiser is nothing to another, and scores of two kinds choose no best weights."""
OF_STEPS = ("optimizer", "scheduler", "trainer.gradient_clip_val")
"""What is an optimiser's."""


def refuse_other_run(before: DictConfig, now: DictConfig, new: Sequence[str]) -> None:
    """Refuse words that would change what a run is: its data, its model, its objective, K, its seed.

    Args:
        before: The config of the run as it stands.
        now: The config with the words of this continuation.
        new: Those words.

    Raises:
        UserError: Naming the first key, its value, and the word that changes it.
    """
    then, after = ({name: part for name, part in _plain(cfg).items() if name != "hydra"} for cfg in (before, now))
    closed_form = _value(after, "objective._target_") == EM
    for changed in _differences(then, after):
        if closed_form and _is_of(changed, OF_STEPS):
            raise UserError(
                f"resume: {changed}={_value(after, changed)} would change nothing, since objective=em makes no steps "
                "by gradients; leave it out."
            )
        if not _may_change(changed):
            word = next((word for word in new if _is_of(changed, [key(word)])), f"{changed}={_value(after, changed)}")
            raise UserError(
                f"resume: {word} would make it another run: its {changed} is {_value(then, changed)}; leave the word "
                "out, or start a new run."
            )


def _lacks(container: Any, dotted: str) -> bool:
    group, _, leaf = dotted.rpartition(".")
    node = _value(container, group) if group else container
    return not (isinstance(node, dict) and leaf in node)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(cfg)
    assert isinstance(container, dict)
    return {str(name): part for name, part in container.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _may_change(name: str) -> bool:
    return _is_of(name, MAY_CHANGE) and not _is_of(name, MAY_NOT)


def _is_of(name: str, keys: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in keys)


def _value(container: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        container = container.get(name) if isinstance(container, dict) else None
    return container


def _is_true(words: list[str], name: str) -> bool:
    given = [word.partition("=")[2] for word in words if key(word) == name]
    if given and given[-1] not in ("true", "false"):
        raise UserError(f"{name} must be true or false, got {given[-1]!r}.")
    return given[-1:] == ["true"]


def _words(path: Path) -> list[str]:
    if not path.exists():
        return []
    words = read_values(path) or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{path} is damaged: it should be a list of overrides.")
    check_words(words, str(path))
    return [current_word(word) for word in words if key(word) != "resume"]


def _differences(then: Any, now: Any, path: str = "") -> Iterator[str]:
    """Dotted keys of all differences, in the order of ``now``."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        # NaN differs from itself
        if not (then == now or (then != then and now != now)):
            yield path
        return
    for name in [*now, *(name for name in then if name not in now)]:
        below = f"{path}.{name}" if path else str(name)
        if below == "resume":
            continue
        if (name in then) != (name in now):
            yield below
        else:
            yield from _differences(then[name], now[name], below)
