"""Main memory of this machine, or what a container leaves of it."""

import os
from pathlib import Path

CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available() -> int:
    """Bytes that this process may use at most: of the machine, or of its control group where that has a limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for path in CGROUPS if (limit := _limit(path)))])


def in_words(size: float) -> str:
    """A number of bytes for a reader, e.g. ``1,600 GiB``."""
    return f"{size / 2**30:,.0f} GiB"


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no control group, or the word max
        return None
