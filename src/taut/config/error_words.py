"""Errors of Hydra, OmegaConf, torch and Lightning in words for the user."""

import re
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from taut.config.check import in_another_group
from taut.config.synonyms import meant
from taut.errors import RunError, UserError, nearest
from taut.runtime import devices

UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
UNKNOWN_CHOICE = re.compile(r"Could not (?:find|load) '([^']+)/([^'/]+)'")

STUDY = "A study is added with a plus sign: +sweep=<study>."

OF_THE_RUN = {
    "data": "are taken as they were trained on, with the same split. Score other rows of them with split=train, "
    "split=val or split=test, and those of another file with data.path=<file>.",
    "mask": "is taken as it was trained with. Say where its file is now with mask.path=<file>.",
}
"""What a command that measures a run takes from it, and what may be typed instead."""

Compose = Callable[[list[str]], DictConfig]


def explain(error: Exception, overrides: list[str], compose: Compose, conf: Path) -> str:
    """One sentence for what Hydra or OmegaConf refused.

    Args:
        error: What was raised by composing ``overrides``.
        overrides: The words of the command line.
        compose: Composes a config from overrides; asked for the keys that do exist.
        conf: The folder of the configs; asked for the choices that do exist.
    """
    text = str(error)
    if isinstance(error, MissingConfigException) and (match := UNKNOWN_CHOICE.search(text)):
        if match.groups() == ("strategy", "mps"):
            return devices.NO_MPS
        options = error.options or [path.stem for path in (conf / match[1]).glob("*.yaml")]
        return f"{match[1]}={match[2]} is not known; {meant(match[1], match[2], options)}"
    if match := UNKNOWN_KEY.search(text):
        if match[1] == "sweep":
            return STUDY
        return _without_a_place(match[1], overrides, compose)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    # the first line of an error in a file says where, and the second what
    first = " ".join(lines[:2]) if lines[0].endswith("composing config:") else lines[0]
    if first.startswith("Ambiguous value"):
        return f"{first.removeprefix('Ambiguous value for argument ')} is a list of values; add -m to run each of them."
    if first.startswith("Error merging override"):
        return f"{first.removeprefix('Error merging override ')} puts a value of another kind in the place of a group."
    if first.startswith("Error parsing override"):
        return f"{first.removeprefix('Error parsing override ')} is not of the form key=value."
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return f"{key}{first.rstrip('.')}."


NO_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
ANOMALY = re.compile(r"Function '\w+' returned nan values")
"""What torch says under trainer.detect_anomaly."""
OF_LIGHTNING = tuple(f"lightning.pytorch.{part}" for part in ("callbacks", "core", "loops", "trainer"))


def translated(error: Exception) -> Exception:
    """Put an error of torch or Lightning into words for the user; any other error is returned as it is."""
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, RuntimeError) and text.startswith("Error(s) in loading state_dict"):
        return UserError("The checkpoint is of a model of another shape; resume without words that change the model.")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return UserError(f"The memory does not suffice ({first}); choose a smaller model, k or data.batch_size.")
    if _is_of_lightning(error):
        return UserError(f"Lightning refuses the trainer or a callback: {first.rstrip('.')}.")
    if isinstance(error, RuntimeError) and ANOMALY.match(text):
        return RunError(f"Training diverged: {first} Lower optimizer.lr, or set trainer.gradient_clip_val.")
    return error


def _is_of_lightning(error: Exception) -> bool:
    """Tell whether Lightning itself has refused its settings: some it can judge only once it knows the data."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__")) if frames else ""
    refusal = type(error).__name__ == "MisconfigurationException" or isinstance(error, ValueError | RuntimeError)
    return refusal and module.startswith(OF_LIGHTNING)


def _without_a_place(key: str, overrides: list[str], compose: Compose) -> str:
    """The sentence on a key that the config lacks, or that holds others and has no choices in this command."""
    try:
        node = compose([word for word in overrides if word.partition("=")[0].lstrip("+~") != key])
    except Exception:
        # another word may be wrong, or hold several values; what is chosen of the group still has the keys that exist
        group = key.split(".")[0]
        node = compose([word for word in overrides if word.partition("=")[0] == group != key and "," not in word])
    if key in node:
        return f"{key} is a group of keys here, not a choice; set one of them: {key}.<key>=<value>."
    group = key.partition(".")[0]
    # null where a command that measures a run takes what the run was trained with
    if "run" in node and group != key and group in OF_THE_RUN and node.get(group) is None:
        return f"{key} cannot be changed here: the {group} of the run {OF_THE_RUN[group]}"
    if (elsewhere := in_another_group(key, node)) is not None:
        return f"There is no key {key}; did you mean {elsewhere}?"
    return f"There is no key {key}; {_nearest_in(node, key)}"


def _nearest_in(node: DictConfig, key: str) -> str:
    """The key beside the missing one that is spelt most like it; what exists of its path is taken as right."""
    prefix, names = "", key.split(".")
    while len(names) > 1 and isinstance(node.get(names[0]), DictConfig):
        node, prefix = node[names[0]], f"{prefix}{names[0]}."
        names = names[1:]
    return nearest(names[0], [str(name) for name in node], prefix)
