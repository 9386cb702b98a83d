"""Engines that run supervisors: joblib on this machine, or submitit on a cluster."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from shutil import which
from threading import Event
from typing import Any

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
    if launcher.engine == "submitit":
        Cluster(launcher, folder).run(commands, told)
    else:
        _here(commands, launcher.n_jobs, launcher.gpus, told)


def settle(launcher: DictConfig, folder: Path) -> None:
    """Write down how jobs ended that a cluster ran while no driver was there."""
    if launcher.engine == "submitit":
        Cluster(launcher, folder).settle()


def _here(commands: Sequence[Command], n_jobs: int, gpus: Sequence[int] | None, told: Told) -> None:
    import joblib

    stop, running, free = Event(), set[int](), SimpleQueue[int | None]()
    for slot in range(n_jobs):
        free.put(gpus[slot % len(gpus)] if gpus else None)
    supervise = joblib.delayed(_supervised)
    # threads: each only waits for a process; unordered, so that a job is shown as soon as it ends
    pool = joblib.Parallel(n_jobs, backend="threading", return_as="generator_unordered", pre_dispatch="n_jobs")
    ended: Any = pool(supervise(i, command, stop, running, free) for i, command in enumerate(commands))
    try:
        for index, status in ended:
            told(index, status)
    finally:
        stop.set()
        while running:  # jobs that were stopped are writing their checkpoints
            time.sleep(POLL)


def _supervised(
    index: int, command: Command, stop: Event, running: set[int], free: SimpleQueue[int | None]
) -> tuple[int, Status]:
    running.add(index)
    gpu = free.get()
    try:
        env = command.env if gpu is None else {**command.env, SEEN: str(gpu)}
        return index, Supervisor(stop.is_set)(replace(command, env=env))
    finally:
        free.put(gpu)
        running.discard(index)


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
