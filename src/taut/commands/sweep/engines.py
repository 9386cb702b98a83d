"""Engines that run supervisors: joblib on this machine, or submitit on a cluster."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from shutil import which
from threading import Event
from typing import Any

from omegaconf import DictConfig

from taut.commands.sweep.job import Status
from taut.commands.sweep.supervise import Command, Supervisor
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
        _on_cluster(commands, launcher, folder, told)
    else:
        _here(commands, launcher.n_jobs, launcher.gpus, told)


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
        return index, Supervisor(stop.is_set)(command if gpu is None else replace(command, env={SEEN: str(gpu)}))
    finally:
        free.put(gpu)
        running.discard(index)


def _on_cluster(commands: Sequence[Command], launcher: DictConfig, folder: Path, told: Told) -> None:
    executor = _executor(launcher, folder)
    submitted: list[Any] = executor.map_array(Supervisor(), commands)
    waiting = dict(enumerate(submitted))
    while waiting:
        for index in _done(waiting):
            told(index, _accounted(commands[index].folder, waiting.pop(index)))
        time.sleep(POLL)


def _done(waiting: dict[int, Any]) -> list[int]:
    # a list, since the caller takes entries out of the dictionary meanwhile
    return [index for index, job in waiting.items() if job.done()]


def _accounted(folder: Path, job: Any) -> Status:
    """The status of a job; failed if the cluster ended the job before it could write one."""
    status = Status.read(folder)
    if status.state in ("finished", "failed"):
        return status
    lost = replace(status, state="failed", reason=f"the cluster ended job {job.job_id} ({job.state.lower()})")
    return lost.write(folder)


def refuse_missing(launcher: DictConfig) -> None:
    """Refuse an engine that is not available on this machine, before anything is written.

    Raises:
        UserError: Naming the way out.
    """
    if launcher.engine != "submitit":
        return
    if find_spec("submitit") is None:
        raise UserError("launcher=slurm needs submitit: pip install -c constraints.txt -e '.[sweep]'.")
    if launcher.cluster == "slurm" and which("sbatch") is None:
        raise UserError(
            "launcher.cluster=slurm is not available here: there is no sbatch; start the sweep on a machine of the "
            "cluster, or try launcher.cluster=local."
        )


def _executor(launcher: DictConfig, folder: Path) -> Any:
    import submitit

    executor = submitit.AutoExecutor(folder / ".submitit" / "%j", cluster=launcher.cluster)
    executor.update_parameters(**dict(_parameters(launcher)))
    return executor


def _parameters(launcher: DictConfig) -> Iterator[tuple[str, Any]]:
    for name in ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "tasks_per_node", "nodes"):
        if launcher.get(name) is not None:
            yield name, launcher[name]
    yield "name", "taut"
    if launcher.cluster == "slurm":
        yield "slurm_array_parallelism", launcher.n_jobs
        for name, value in (launcher.slurm or {}).items():
            yield f"slurm_{name}", value
