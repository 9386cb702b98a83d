"""The loggers of a config, ``logger.<name>``, and words that leave the name out: ``logger.mode=online``."""

from collections.abc import Callable, Mapping
from typing import Any

from taut.errors import UserError

GROUP = "logger"


def logger_nodes(node: Mapping[str, Any]) -> dict[str, Any]:
    """What describes each logger, by its name.

    A file of the user's own may describe one logger without a name, as the configs of runs before taut 0.2 do.
    """
    return {GROUP: node} if "_target_" in node else {str(name): part for name, part in node.items() if part}


def without_others(node: Any) -> Any:
    """What a command that reads a run back needs: the loggers of taut, whose records can be added to.

    Another may begin a new record whenever it is made, may be of a package that nobody has named now, and may be
    described by values that only a training has.
    """
    if not isinstance(node, dict):
        return node
    return {
        name: part
        for name, part in logger_nodes(node).items()
        if not isinstance(part, dict) or str(part.get("_target_")).startswith("taut.")
    }


def with_names(words: list[str], compose: Callable[[list[str]], Mapping[str, Any]]) -> list[str]:
    """The words, where a key of a logger is named without it, with the name of the only logger that it can mean.

    Args:
        words: Overrides.
        compose: The config of overrides; asked for the loggers that are chosen.

    Raises:
        UserError: If several loggers have the key.
    """
    if not any(_is_key(word) for word in words):
        return words
    node = compose([word for word in words if not _is_key(word)]).get(GROUP) or {}
    # without names there is nothing to leave out
    return words if "_target_" in node else [_with_name(word, node) if _is_key(word) else word for word in words]


def _is_key(word: str) -> bool:
    return word.partition("=")[0].lstrip("+~").startswith(f"{GROUP}.")


def _with_name(word: str, node: Mapping[str, Any]) -> str:
    path, equals, value = word.partition("=")
    bare = path.lstrip("+~")
    key = bare.removeprefix(f"{GROUP}.")
    first = key.partition(".")[0]
    if first in node:
        return word
    named = [name for name, part in node.items() if first in part]
    if len(named) > 1:
        ways = " or ".join(f"{GROUP}.{name}.{key}={value}" for name in named)
        raise UserError(f"{bare}={value} could mean several loggers; write {ways}.")
    # of a single one also what it lacks, so that the message names the key that is meant; + may add a logger
    meant = named or (list(node) if len(node) == 1 and path == bare else [])
    return f"{path[: len(path) - len(bare)]}{GROUP}.{meant[0]}.{key}{equals}{value}" if meant else word
