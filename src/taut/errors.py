"""The exceptions that are meant for the reader of the terminal."""


class UserError(Exception):
    """A mistake in a command, a config or a file, told in one sentence.

    The message names what was wrong, what was expected and how to put it right. The command line prints it without a
    traceback and exits with code 2.
    """


class RunError(Exception):
    """A run that went wrong while it ran, told in one sentence; its folder stays. Exit code 1, without a traceback."""

    code = 1
