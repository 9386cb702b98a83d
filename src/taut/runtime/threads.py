r"""CPU threads of this process: how many a training step is worth, and how long they wait for the next product.

Two rules, and the environment (``OMP_NUM_THREADS``, ``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``) and ``threads=`` win over
both:

- **How many** follows from the multiplications of one step alone, since their number may change the last bit of a
  product: one thread for each 0.2 GFLOP that is begun, and no more than the cores this process may use. 16 threads on a
  few cores make a product of 100 x 784 x 200 a hundred times slower.
- **How long they spin** for work before they sleep changes no bit, so it may follow from how busy the machine is while
  the command starts: 10,000 turns where nobody else wants the cores, else 1,000. Threads that sleep at once are slow to
  wake for a small product; threads that spin beside a busy neighbour take the core from the one that has the work.

``python -m benchmarks.threads``, and with ``--busy``, measures both on the machine at hand.
"""

import os
import time
from math import ceil
from pathlib import Path
from typing import NamedTuple

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user sets the number of threads."""
WORK_OF_A_THREAD = 2e8
"""Floating-point operations of a step that are worth one more thread."""
PATIENT, IMPATIENT = "10000", "1000"
"""Turns of an idle thread before it sleeps."""
STAT = Path("/proc/stat")
LONG_ENOUGH = 0.1
"""Seconds below which the hundredths of a second that Linux counts in say nothing."""
IDLE = 0.25
"""Cores that others may use where the machine is called idle."""


def set_by_user() -> bool:
    """Tell whether the environment says how many threads there are."""
    return any(name in os.environ for name in COUNTS)


def cores() -> int:
    """Cores that this process may use: by its affinity, and by the quota of its container."""
    import joblib  # a tenth of a second, which a command that computes nothing need not spend

    return joblib.cpu_count()


def of_step(operations: float, most: int) -> int:
    """Threads of a training step of so many floating-point operations, at most so many."""
    return max(1, min(most, ceil(operations / WORK_OF_A_THREAD)))


class Moment(NamedTuple):
    """Seconds that the cores of this machine, and this process, have computed until now.

    Args:
        at: Of the clock.
        machine: All cores together; None where the system does not tell.
        own: This process.
    """

    at: float
    machine: float | None
    own: float

    @classmethod
    def now(cls) -> "Moment":
        """What the system says now."""
        used = os.times()
        return cls(time.monotonic(), _computed(), used.user + used.system)


def set_wait(since: Moment) -> None:
    """Say how long an idle thread spins, unless the user does; OpenMP reads it when torch is loaded."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": turns(since)}


def turns(since: Moment) -> str:
    """Turns for which an idle thread spins, by what else has computed since a moment."""
    now = Moment.now()
    seconds = now.at - since.at
    if now.machine is None or since.machine is None or seconds < LONG_ENOUGH:
        return IMPATIENT
    others = (now.machine - since.machine - (now.own - since.own)) / seconds
    return PATIENT if (os.cpu_count() or 1) - others >= cores() - IDLE else IMPATIENT


def _computed() -> float | None:
    try:
        user, nice, system, _, _, *interrupts = map(int, STAT.read_text().splitlines()[0].split()[1:8])
    except (OSError, ValueError, IndexError):
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
