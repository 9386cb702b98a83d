"""The process of one candidate: it waits to be told to run a block, and answers what a step of it took.

``python -m benchmarks.worker THREADS MODULE:FUNCTION OPTIONS`` calls the function with a :class:`Clock` and options. It
sets up, then calls ``clock.tick()`` after every step, for ever; the clock starts, ends and answers blocks. Orders and
answers are lines of JSON on stdin and on what was stdout. Linux only: loads are read from ``/proc``.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import IO, Any

TICKS = os.sysconf("SC_CLK_TCK")


class Clock:
    """Cuts the steps of a candidate into blocks.

    Args:
        orders: Where blocks are asked for.
        answers: Where they are answered.
    """

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders, self._answers = orders, answers
        self._start: float | None = None
        self._begin({"seconds": 0.0})

    def tick(self, steps: int = 1, value: Callable[[], Any] | None = None) -> None:
        """So many more steps are done; where this ends a block, its answer carries ``value()``, which is not timed."""
        now = perf_counter()
        self._done += steps
        if now >= self._until or self._done >= self._most:
            self._answer(now - self._started, value)
            order = self._orders.readline()
            if not order:
                os._exit(0)
            self._begin(json.loads(order))

    def _begin(self, order: dict[str, Any]) -> None:
        self._most, self._done = order.get("steps") or float("inf"), 0
        self._busy, self._own = busy(), own()
        self._started = perf_counter()
        self._until = self._started + order["seconds"]

    def _answer(self, elapsed: float, value: Callable[[], Any] | None) -> None:
        foreign = (busy() - self._busy - (own() - self._own)) / max(elapsed, 1e-9)
        if self._start is None:
            self._start = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the most so far is what is in use now
        answer = {
            "elapsed": elapsed,
            "steps": self._done,
            "foreign": max(0.0, foreign),
            "start": self._start,
            "peak": memory("VmHWM"),
            "value": value() if value else None,
        }
        print(json.dumps(answer), file=self._answers, flush=True)


def busy() -> float:
    """Seconds this process's cores have worked for anyone, or were kept from this machine by its host."""
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    rows = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    worked = (sum(int(row[i]) for i in (1, 2, 3, 6, 7, 8)) for row in rows if row[0] in cores)
    return sum(worked) / TICKS


def own() -> float:
    """Seconds that this process and those it started have worked."""
    session, worked = str(os.getsid(0)), 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == session:
            worked += int(fields[11]) + int(fields[12])
    return worked / TICKS


def memory(field: str) -> float:
    """MiB in use now, ``VmRSS``, or at most so far, ``VmHWM``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main(threads: str, entry: str, options: str) -> None:
    """Run one candidate on so many cores until its orders end."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    module, _, function = entry.partition(":")
    getattr(import_module(module), function)(Clock(sys.stdin, answers), **json.loads(options))


if __name__ == "__main__":
    main(*sys.argv[1:])
