"""The exceptions that are meant for the reader of the terminal, and of the log it may go to."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches

_redact: Callable[[str], str] = str
TWO_STOPS = re.compile(r"(?<=[\w)\]}'\"%>])\.\.(?=\s|$)")
"""Two full stops at the end of a sentence; a path such as ``../data`` or ``a/..`` has none."""


def redact_messages_with(redact: Callable[[str], str]) -> None:
    """Let every message of these exceptions go through ``redact``; ``config.secrets`` calls this."""
    global _redact
    _redact = redact


class UserError(Exception):
    """A mistake in a command, a config or a file, told in one sentence.

    The message names what was wrong, what was expected and how to put it right. The command line prints it without a
    traceback and exits with code 2. Secrets in it are named, not given.
    """

    def __str__(self) -> str:
        return _told(super().__str__())


class RunError(Exception):
    """A run that went wrong while it ran, told in one sentence; its folder stays. Exit code 1, without a traceback."""

    code = 1

    def __str__(self) -> str:
        return _told(super().__str__())


def _told(message: str) -> str:
    """A message without secrets, and with one stop behind the words of another library that end in one themselves."""
    return TWO_STOPS.sub(".", _redact(message))


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about a name that does not exist: the one meant, or all there are."""
    choices = sorted(known)
    near = get_close_matches(name, choices, 1, cutoff=0.5)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"choose among {', '.join(prefix + choice for choice in choices)}." if choices else "there is none."
