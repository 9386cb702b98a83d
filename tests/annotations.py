"""The checker of annotations under test: shapes and types of the first calls of every test."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import config

CALLS = 1000
"""Checks of one test, about a tenth of a second; a test of statistics would spend two fifths of its time on more."""
_typed = beartype(conf=BeartypeConf(is_pep484_tower=True))  # as PEP 484 has it, a function of a float takes an int
_left = CALLS


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the import hook puts around every function: checks it, and counts."""
    typed: Callable[..., Any] | None = None

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal typed
        global _left
        _left -= 1
        if _left < 0:
            config.update("jaxtyping_disable", True)
        if (
            typed is None
        ):  # when it is first called: most functions of a process never are, and a check takes a while to write
            typed = _typed(function)
        return typed(*args, **kwargs)

    return counted


def start() -> None:
    """Begin to check again: at every test."""
    global _left
    _left = CALLS
    config.update("jaxtyping_disable", False)
