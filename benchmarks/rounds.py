"""Interleaved runs: every candidate in a process of its own, one block of each per round, A B C A B C.

A block that others disturbed is run again; the figure of a candidate is the median over rounds of its ratio to another
candidate of the same round, which sees the same machine.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = 0.12
"""Cores that others may use during a block."""
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""How threads wait, which the command line of this project sets for itself."""
AS_THE_COMMAND: dict[str, str | None] = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""What it sets on an idle machine, for candidates of this project that are no command."""
OWN_THREADS: dict[str, str | None] = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
"""For a command, which chooses its number of threads where these are not set, within the cores it is given."""


@dataclass(frozen=True)
class Candidate:
    """What is timed.

    Args:
        name: Its name in tables.
        entry: A function of a clock and options, see ``benchmarks.worker``.
        options: What it is called with.
        needs: A library it needs.
        env: Of its process, None for what is not set: how many threads there are and how they wait.
    """

    name: str
    entry: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: str | None = None
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        return self.needs is None or find_spec(self.needs) is not None


@dataclass(frozen=True)
class Block:
    """Some steps in a row.

    Args:
        elapsed: Seconds of all.
        steps: How many.
        foreign: Cores that others used meanwhile.
        start: MiB in use when the candidate was ready for its first step.
        peak: MiB in use at most so far.
        value: What the candidate had to say at the end.
    """

    elapsed: float
    steps: int
    foreign: float
    start: float
    peak: float
    value: Any

    @property
    def seconds(self) -> float:
        """Seconds of one step."""
        return self.elapsed / self.steps


class Died(RuntimeError):
    """A candidate's process ended."""


class Worker:
    """The process of one candidate.

    Args:
        candidate: What it runs.
        threads: Cores and threads it is given.
        place: Folder for what it writes.
        real_time: Whether its blocks go before everything else that the machine has to do.
    """

    def __init__(self, candidate: Candidate, threads: int, place: Path, real_time: bool = False) -> None:
        self.name, self._real_time = candidate.name, real_time
        self.log = (place / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", str(threads), candidate.entry, json.dumps(candidate.options)],
            cwd=place,
            env={name: value for name, value in {**environment(threads), **candidate.env}.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )

    def ready(self) -> Block:
        """Wait until it can run its first block."""
        return self._answer()

    def block(self, seconds: float, steps: int | None = None) -> Block:
        """A block of so many seconds, or of so many steps if they end earlier."""
        assert self._process.stdin
        if self._real_time:
            self._schedule(os.SCHED_RR, 1)
        self._process.stdin.write(json.dumps({"seconds": seconds, "steps": steps}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if self._real_time:
            self._schedule(os.SCHED_OTHER, 0)
        return answer

    def _schedule(self, policy: int, priority: int) -> None:
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended
                os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))

    def close(self) -> None:
        """End the process and all it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.log.close()

    def _answer(self) -> Block:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise Died(f"{self.name}: {self.log.read()[-3000:]}")
        return Block(**json.loads(line))


def environment(threads: int) -> dict[str, str]:
    """What every process is given, whatever it runs; how its threads wait is a candidate's own choice."""
    counts = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    own = {name: value for name, value in os.environ.items() if name not in WAITING}
    return {**own, **counts, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


@contextmanager
def workers(candidates: Sequence[Candidate], threads: int, real_time: bool = False) -> Iterator[list[Worker]]:
    """The processes of some candidates, ready; they are ended, and what they wrote is swept away, at exit."""
    with ExitStack() as stack:
        started = []
        for candidate in candidates:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            started.append(Worker(candidate, threads, place, real_time))
            stack.callback(started[-1].close)
            # one after another: a command judges by how busy the machine is while it starts
            started[-1].ready()
        yield started


def interleave(
    candidates: Sequence[Candidate],
    rounds: int,
    seconds: float,
    retries: int = 2,
    threads: int = 2,
    warm_up: int | None = None,
    real_time: bool = False,
) -> dict[str, list[Block]]:
    """Of every candidate a block that only warms it up, and then one in each round.

    Args:
        candidates: Those to run; one that is not installed is said to be absent.
        rounds: Blocks of each.
        seconds: Length of a block.
        retries: How often a disturbed block is run again; the least disturbed one counts.
        threads: Cores and threads of each.
        warm_up: Steps of the first block, if it is not to be as long as the others.
        real_time: Let a block go before everything else that the machine has to do; only root may.
    """
    for absent in (c for c in candidates if not c.installed):
        print(f"{absent.name}: not installed")
    present = [c for c in candidates if c.installed]
    blocks: dict[str, list[Block]] = {c.name: [] for c in present}
    with workers(present, threads, real_time) as started:
        for worker in started:
            blocks[worker.name].append(worker.block(1e9, warm_up) if warm_up else worker.block(seconds))
        for round_ in range(rounds):
            for worker in started:
                blocks[worker.name].append(quietest(partial(worker.block, seconds), retries))
            print(f"round {round_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return blocks


def quietest(run: Callable[[], Block], retries: int) -> Block:
    """The first block that nobody disturbed, or else the least disturbed of all tries."""
    best = run()
    for _ in range(retries):
        if best.foreign <= FOREIGN:
            break
        best = min(best, run(), key=lambda block: block.foreign)
    return best


@dataclass(frozen=True)
class Summary:
    """Seconds per step, the ratios to another candidate round by round, and how many blocks were disturbed."""

    median: float
    least: float
    ratios: list[float]
    disturbed: int
    rounds: int

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile of the ratios."""
        if len(self.ratios) < 2:
            return self.ratios[0], self.ratios[0]
        first, _, third = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return first, third


def summarise(blocks: dict[str, list[Block]], reference: str) -> dict[str, Summary]:
    """Every candidate against the reference, the first blocks left out."""
    base = [block.seconds for block in blocks[reference][1:]]
    return {name: _summary([b.seconds for b in own[1:]], base, own[1:]) for name, own in blocks.items()}


def _summary(seconds: list[float], base: list[float], own: list[Block]) -> Summary:
    ratios = [a / b for a, b in zip(seconds, base, strict=True)]
    disturbed = sum(block.foreign > FOREIGN for block in own)
    return Summary(statistics.median(seconds), min(seconds), ratios, disturbed, len(own))
