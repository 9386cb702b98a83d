"""YAML of plain values: what it may hold, checked before anything is built of it.

A config or a run folder may come from a stranger. Building YAML can overflow the stack (depth), fill the memory
(aliases) or make objects (tags), and a key that stands twice means something else to every reader.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from taut.errors import UserError
from taut.files import read_regular, reason

if TYPE_CHECKING:
    from omegaconf import DictConfig

LARGEST = 1_000_000
"""Bytes of a YAML file."""
DEEPEST = 40
MOST_VALUES = 100_000
"""Values a file may unfold to through its aliases."""
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


class NotPlain(ValueError):
    """YAML that is not read, with the reason in words that follow the name of the file."""


def check_yaml(place: Path) -> None:
    """Refuse what is not plain in a YAML file, or in all of a folder, before anything reads it.

    Raises:
        UserError: Naming the file.
    """
    for path in sorted(place.rglob("*.y*ml")) if place.is_dir() else [place]:
        _checked(path)


def read_values(path: Path) -> Any:
    """Content of a YAML file as plain values.

    Raises:
        UserError: If it cannot be read or is not plain.
    """
    return values(_checked(path))


def read_config(path: Path) -> "DictConfig":
    """A config, as OmegaConf reads its own files.

    Raises:
        UserError: If it cannot be read, is not plain, or is no mapping.
    """
    from omegaconf import DictConfig, OmegaConf  # here: report.py does without
    from omegaconf.errors import OmegaConfBaseException

    text = _checked(path)
    if not isinstance(yaml.compose(text, Loader=yaml.CSafeLoader), yaml.MappingNode):
        raise UserError(f"{path} is damaged: it should be a config, which is a mapping of keys to values.")
    try:
        # of the text, since it reads numbers such as 1e-3 as OmegaConf wrote them, which YAML 1.1 does not
        config = OmegaConf.create(text)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is damaged: it is not a config ({_first_line(error)}).") from error
    assert isinstance(config, DictConfig)
    return config


def values(text: str, aliases: bool = True) -> Any:
    """The plain values of a YAML text.

    Args:
        text: What is to be read.
        aliases: Whether a value may stand for another (``*name``).

    Raises:
        NotPlain: If it holds anything else.
    """
    check_text(text, aliases)
    try:
        return yaml.CSafeLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise NotPlain(f"is not a readable YAML file: {_first_line(error)}") from error


def check_text(text: str, aliases: bool = True) -> None:
    """Refuse a YAML text that is not plain.

    Args:
        text: What is to be read.
        aliases: Whether a value may stand for another (``*name``).

    Raises:
        NotPlain: With the reason.
    """
    try:
        # first event by event, which needs no stack: composing a text of many brackets overflows it
        _check_events(text, aliases)
        # compose keeps an alias as one shared node, so that counting is cheap; OmegaConf copies it at every place
        nodes = _unfolded(yaml.compose(text, Loader=yaml.CSafeLoader), {})
    except (yaml.YAMLError, UnicodeError) as error:
        raise NotPlain(f"is not a readable YAML file: {_first_line(error)}") from error
    if nodes > MOST_VALUES:
        raise NotPlain(f"unfolds to {nodes:.3g} values through its aliases (*name); write it without them")


def _checked(path: Path) -> str:
    try:
        text = read_regular(path, LARGEST).decode("utf-8")
        check_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: it {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a readable YAML file: {error}.") from error
    except NotPlain as error:
        raise UserError(f"{path} {error}.") from error
    return text


def _check_events(text: str, aliases: bool) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise NotPlain(f"is nested more than {DEEPEST} deep; write it flatter")
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise NotPlain("holds aliases (*name); write it without them")
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in TAGS:
            raise NotPlain(f"holds the tag {tag.removeprefix('tag:yaml.org,2002:')!r}; only plain values are read")


def _unfolded(node: yaml.Node | None, sizes: dict[int, float]) -> float:
    """Values a YAML graph unfolds to; infinite where it contains itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
        # set before its parts are visited, so that a node which contains itself ends the recursion, and is infinite
        sizes[id(node)] = math.inf
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else [pair])]
        sizes[id(node)] = 1 + sum(_unfolded(part, sizes) for part in parts)
    return sizes[id(node)]


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise NotPlain(f"has a key that is no word or number in line {key.start_mark.line + 1}")
        if (key.tag, key.value) in seen:
            raise NotPlain(
                f"holds the key {key.value!r} twice, again in line {key.start_mark.line + 1}; keep one of them"
            )
        seen.add((key.tag, key.value))


def _first_line(error: Exception) -> str:
    # PyYAML spreads place and problem over several lines
    problem = getattr(error, "problem", None)
    mark = getattr(error, "problem_mark", None)
    if problem and mark is not None:
        return f"{problem} in line {mark.line + 1}"
    return (str(error).splitlines() or [type(error).__name__])[0]
