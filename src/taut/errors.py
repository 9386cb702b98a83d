"""The exceptions that are meant for the reader of the terminal, and of the log it may go to."""

from taut.secrecy import redacted


class UserError(Exception):
    """A mistake in a command, a config or a file, told in one sentence.

    The message names what was wrong, what was expected and how to put it right. The command line prints it without a
    traceback and exits with code 2. Secrets in it are named, not given.
    """

    def __str__(self) -> str:
        return redacted(super().__str__())


class RunError(Exception):
    """A run that went wrong while it ran, told in one sentence; its folder stays. Exit code 1, without a traceback."""

    code = 1

    def __str__(self) -> str:
        return redacted(super().__str__())
