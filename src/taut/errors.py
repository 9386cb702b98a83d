"""The exceptions that are meant for the reader of the terminal, and of the log it may go to."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches

_redact: Callable[[str], str] = str


def redact_messages_with(redact: Callable[[str], str]) -> None:
    """From now on every message of these exceptions goes through ``redact``; whoever knows the secrets calls this."""
    global _redact
    _redact = redact


class UserError(Exception):
    """A mistake in a command, a config or a file, told in one sentence.

    The message names what was wrong, what was expected and how to put it right. The command line prints it without a
    traceback and exits with code 2. Secrets in it are named, not given.
    """

    def __str__(self) -> str:
        return _redact(super().__str__())


class RunError(Exception):
    """A run that went wrong while it ran, told in one sentence; its folder stays. Exit code 1, without a traceback."""

    code = 1

    def __str__(self) -> str:
        return _redact(super().__str__())


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about a name that does not exist: the one meant, or all there are."""
    choices = sorted(known)
    near = get_close_matches(name, choices, 1, cutoff=0.5)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"choose among {', '.join(prefix + choice for choice in choices)}." if choices else "there is none."
