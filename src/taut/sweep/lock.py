"""Locks that end with the processes that hold them, however those end."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE = 0.05


@contextmanager
def held(path: Path, wait: Callable[[], bool]) -> Iterator[int]:
    """Hold the lock of a file; the block gets its descriptor, and whoever inherits that holds the lock as well.

    Args:
        path: The file; made if need be.
        wait: Asked between two attempts whether to go on waiting.

    Raises:
        BlockingIOError: If another process has it and ``wait`` says no.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _taken(descriptor):
            if not wait():
                raise BlockingIOError(f"{path} is held by another process")
            time.sleep(PAUSE)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
