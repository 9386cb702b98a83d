"""Hydra's complaints in one sentence, with the nearest name."""

import re
from collections.abc import Callable
from pathlib import Path

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from taut.errors import UserError, nearest

UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")
UNKNOWN_CHOICE = re.compile(r"Could not (?:find|load) '([^']+)/([^'/]+)'")

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
        options = error.options or [path.stem for path in (conf / match[1]).glob("*.yaml")]
        return f"{match[1]}={match[2]} is not known; {nearest(match[2], options)}"
    if match := UNKNOWN_KEY.search(text):
        if match[1] == "sweep":
            return "A study is added with a plus sign: +sweep=<study>."
        return f"There is no key {match[1]}; {_suggestion(match[1], overrides, compose)}"
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if first.startswith("Ambiguous value"):
        return f"{first.removeprefix('Ambiguous value for argument ')} is a list of values; add -m to run each of them."
    if first.startswith("Error parsing override"):
        return f"{first.removeprefix('Error parsing override ')} is not of the form key=value."
    key = f"{error.full_key}: " if isinstance(error, OmegaConfBaseException) and error.full_key else ""
    return f"{key}{first.rstrip('.')}."


def translated(error: Exception) -> Exception:
    """The same error, or what it means to the user where torch says it in its own words."""
    if isinstance(error, RuntimeError) and str(error).startswith("Error(s) in loading state_dict"):
        return UserError("The checkpoint is of a model of another shape; resume without words that change the model.")
    return error


def _suggestion(key: str, overrides: list[str], compose: Compose) -> str:
    """The key beside the missing one that is spelt most like it; what exists of its path is taken as right."""
    try:
        node = compose([word for word in overrides if word.partition("=")[0].lstrip("+~") != key])
    except Exception:
        node = compose([])
    prefix, names = "", key.split(".")
    while len(names) > 1 and isinstance(node.get(names[0]), DictConfig):
        node, prefix = node[names[0]], f"{prefix}{names[0]}."
        names = names[1:]
    return nearest(names[0], [str(name) for name in node], prefix)
