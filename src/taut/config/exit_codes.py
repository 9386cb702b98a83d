"""End of a command: its exit code, and what it says on the terminal."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from hydra.errors import HydraException

from taut.config.secrets import redacted
from taut.errors import RunError, UserError
from taut.runtime import workers

FAILED, REFUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
# the others are what Slurm can send some time before its limit; submitit asks it for SIGUSR2
ASKS_TO_STOP = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
FAILING_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
_asked = Event()  # SIGTERM came outside of fit and test, which have their own answer to it
_noting = Event()  # it is to be noted alone


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGTERM unwinds like an exit."""
    _asked.clear()
    previous = {number: signal.signal(number, _terminate) for number in ASKS_TO_STOP}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave_if_asked() -> None:
    """Exit if a signal has asked for it: an import that it cut short may have swallowed the exit."""
    if _asked.is_set():
        sys.exit(TERMINATED)


class Ending:
    """Says on the terminal how a command ended, every sentence once, and gives its exit code.

    Args:
        first: Whether this process speaks for the run; the others leave to it what the user can do next.
        way_on: A sentence on how to go on with what was stopped, with a space in front; empty if there is no way.
    """

    def __init__(self, first: bool, way_on: Callable[[], str]) -> None:
        self.first, self.way_on = first, way_on
        self.told: set[str] = set()

    def code(self, error: BaseException, folder: Path | None) -> int:
        """Say how it ended.

        Args:
            error: What ended it.
            folder: The folder of the run; ``None`` before there was one.
        """
        left = _left(error)
        if left is not None:
            if left in (INTERRUPTED, TERMINATED) and self.first:
                self.say(f"Stopped by {'Ctrl-C' if left == INTERRUPTED else 'SIGTERM'}.{self.way_on()}")
            return left
        if isinstance(error, UserError):
            self.tell(error)
            return REFUSED
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush into
            return FAILED
        if isinstance(error, RunError):
            self.say(str(error))
            if isinstance(error, workers.WorkerFailed):
                self.say(self.way_on().strip())
            return error.code
        if folder is None and isinstance(error, (HydraException, OSError)):
            self.say(f"Nothing was started: {str(error).splitlines()[0].rstrip('.')}.")
            return REFUSED
        # no fault of the program: a traceback would bury the sentence that helps
        if isinstance(error, OSError) and error.errno in FAILING_DISK:
            self.say(f"The disk failed: {error.strerror} ({error.filename or folder}).{self.way_on()}")
            return FAILED
        self.say("".join(traceback.format_exception(error)).rstrip())
        if self.first:
            self.say(self.way_on().strip())
        return FAILED

    def tell(self, error: Exception) -> None:
        """Say what is wrong, unless it has been said; the jobs of a sweep often fail of one cause."""
        if str(error) not in self.told:
            self.told.add(str(error))
            self.say(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")

    def say(self, sentence: str) -> None:
        """Print a sentence without secrets in it."""
        if sentence:
            workers.report_end(redacted(sentence))


def _left(error: BaseException) -> int | None:
    """The exit code of a command that was stopped or that left by itself; ``None`` for an error."""
    # a library may turn Ctrl-C into an error of its own, which then has it as context
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return INTERRUPTED
    if _asked.is_set():
        return TERMINATED  # an import that is cut short can end in any error
    if not isinstance(error, SystemExit):
        return None
    return error.code if isinstance(error.code, int) else int(error.code is not None)


@contextmanager
def noted() -> Iterator[None]:
    """Note SIGTERM inside, for :func:`leave_if_asked` behind it.

    An exit that a handler raises while the C++ of torch has Python import something ends the process with an abort.
    """
    _noting.set()
    try:
        yield
    finally:
        _noting.clear()


def _terminate(*_: Any) -> None:
    _asked.set()
    if not _noting.is_set():
        sys.exit(TERMINATED)
