"""Engines that run supervisors: threads on this machine, or submitit on a cluster."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from shutil import which
from threading import Event
from typing import Protocol

from omegaconf import DictConfig

from taut.commands.sweep import cluster
from taut.commands.sweep.cluster import Cluster
from taut.commands.sweep.job import Status
from taut.commands.sweep.supervise import Command, Supervisor
from taut.config.program import extra
from taut.errors import UserError

POLL = 0.2
SEEN = "CUDA_VISIBLE_DEVICES"
Told = Callable[[int, Status], None]


class Engine(Protocol):
    """What runs jobs, each watched over by a :class:`~taut.commands.sweep.supervise.Supervisor`."""

    def start(self, commands: Sequence[Command]) -> None:
        """Run these commands, now or as soon as there is a place."""
        ...

    def wait(self, waiting: set[str]) -> list[tuple[str, Status]]:
        """Jobs among those waited for, by the names of their folders, that have ended; after a while also none."""
        ...


@contextmanager
def started(launcher: DictConfig, folder: Path) -> Iterator[Engine]:
    """The engine of a sweep; jobs on this machine that run when it is left are stopped with a checkpoint.

    Args:
        launcher: The choice of ``launcher``.
        folder: The sweep's folder.
    """
    if launcher.engine == "submitit":
        yield Cluster(launcher, folder)
        return
    here = Here(launcher.n_jobs, launcher.gpus)
    try:
        yield here
    finally:
        here.stop()


def run(commands: Sequence[Command], launcher: DictConfig, folder: Path, told: Told) -> None:
    """Run every command and tell the status each ends with.

    Args:
        commands: What to run.
        launcher: The choice of ``launcher``.
        folder: The sweep's folder.
        told: Gets the index of a command and its status, once it ends.

    Raises:
        KeyboardInterrupt: If stopped; then the jobs are stopped with a checkpoint and queued again.
    """
    waiting = {command.folder.name: index for index, command in enumerate(commands)}
    with started(launcher, folder) as engine:
        engine.start(commands)
        while waiting:
            for name, status in engine.wait(set(waiting)):
                told(waiting.pop(name), status)


def settle(launcher: DictConfig, folder: Path) -> None:
    """Write down how jobs ended that a cluster ran while no driver was there."""
    if launcher.engine == "submitit":
        Cluster(launcher, folder).settle()


class Here:
    """Jobs on this machine, some at a time, each in a process of its own that a thread waits for.

    Args:
        n_jobs: How many run at a time.
        gpus: The GPUs that they share; None for whatever a process sees.
    """

    def __init__(self, n_jobs: int, gpus: Sequence[int] | None) -> None:
        self._stopping, self._free = Event(), SimpleQueue[int | None]()
        for slot in range(n_jobs):
            self._free.put(gpus[slot % len(gpus)] if gpus else None)
        self._threads = ThreadPoolExecutor(n_jobs)
        self._running: dict[Future[Status], str] = {}

    def start(self, commands: Sequence[Command]) -> None:
        """Run these commands, in this order."""
        self._running |= {self._threads.submit(self._supervised, each): each.folder.name for each in commands}

    def wait(self, waiting: set[str]) -> list[tuple[str, Status]]:
        """Jobs that have ended, with their status, or none after a moment."""
        del waiting
        ended, _ = wait(self._running, POLL, FIRST_COMPLETED)
        return [(self._running.pop(job), job.result()) for job in ended]

    def stop(self) -> None:
        """Stop what runs, and wait for the checkpoints that are being written."""
        self._stopping.set()
        self._threads.shutdown(cancel_futures=True)

    def _supervised(self, command: Command) -> Status:
        gpu = self._free.get()
        try:
            env = command.env if gpu is None else {**command.env, SEEN: str(gpu)}
            return Supervisor(self._stopping.is_set)(replace(command, env=env))
        finally:
            self._free.put(gpu)


def refuse_unavailable(launcher: DictConfig, jobs: int) -> None:
    """Refuse an engine that is not available on this machine, before anything is written.

    Args:
        launcher: The choice of ``launcher``.
        jobs: How many there are at most.

    Raises:
        UserError: Naming the way out.
    """
    if launcher.engine != "submitit":
        return
    if find_spec("submitit") is None:
        raise UserError(f"launcher=slurm needs submitit: {extra('sweep')}.")
    if launcher.cluster == "slurm" and which("sbatch") is None:
        raise UserError(
            "launcher.cluster=slurm is not available here: there is no sbatch; start the sweep on a machine of the "
            "cluster, or try launcher.cluster=local."
        )
    cluster.refuse_unavailable(launcher, jobs)
