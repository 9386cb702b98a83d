"""Rank of this process in its run, read from the environment before anything heavy is imported."""

import ctypes
import os
from contextlib import suppress
from typing import NamedTuple

BY_HAND = ("bash", "interactive")
"""Names of Slurm jobs in which a command is typed: it is one process, whatever was allocated."""


class Launch(NamedTuple):
    """Launcher, rank and size of a run whose processes were started by something else.

    Args:
        by: ``torchrun`` or ``srun``.
        rank: This process among all of the run.
        world: How many there are, on all machines.
    """

    by: str
    rank: int
    world: int


def launched() -> Launch | None:
    """Rank and size as torchrun or srun give them; ``None`` for a process that they did not start."""
    environ = os.environ
    if "TORCHELASTIC_RUN_ID" in environ:
        launch = Launch("torchrun", int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    elif "SLURM_NTASKS" in environ and environ.get("SLURM_JOB_NAME") not in BY_HAND:
        launch = Launch("srun", int(environ.get("SLURM_PROCID", "0")), int(environ["SLURM_NTASKS"]))
    else:
        return None
    return launch if launch.world > 1 else None


def first() -> bool:
    """Tell whether this process prints and writes for the run."""
    launch = launched()
    return launch.rank == 0 if launch else int(os.environ.get("LOCAL_RANK", "0")) == 0


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's ``mallopt``."""


def keep_freed_pages() -> None:
    """Have glibc keep what is freed instead of giving it back to the system; other C libraries are left alone.

    Every step makes and frees the same buffers of some megabytes. By default each is mapped afresh, and the page faults
    cost more than the arithmetic that follows. The process keeps some tens of megabytes more.
    """
    with suppress(OSError, AttributeError):
        # None: the C library this process runs on; AttributeError where it is not glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
