"""The C allocator of the process."""

import ctypes
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's ``mallopt``."""


def keep_freed_pages() -> None:
    """Have glibc keep what is freed instead of giving it back to the system; other C libraries are left alone.

    Every step makes and frees the same buffers of some megabytes. By default each is mapped afresh, and the page faults
    cost more than the arithmetic that follows. The process keeps some tens of megabytes more.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
