"""Jobs of a sweep as tasks of a Slurm array: handed over, found again by the next driver, put back when stopped.

submitit writes the batch file, starts the tasks and counts time limits. What has become of a task is asked of
``squeue``, which every Slurm has: submitit asks ``sacct``, and without accounting waits for ever.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from taut.commands.sweep.job import ENDED, Status
from taut.commands.sweep.supervise import Command, Supervisor
from taut.errors import RunError, UserError
from taut.files import read_regular, write_json

IDS = "cluster.json"
"""Tasks of the cluster that run jobs of a sweep, in its folder."""
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}
"""States of Slurm that a task does not leave by itself; one that is preempted or whose node fails, and that may run
again, is pending."""
STOPPED = "stopped by the cluster, to go on from its checkpoint"
TOO_OFTEN = (
    "ran into its time limit {count} times; the time is launcher.timeout_min, how often it may go on is "
    "launcher.max_requeues, and resume=true goes on from its checkpoint"
)
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds between two questions to Slurm: more where nothing happens, since all users ask the same process."""


@dataclass
class Task:
    """One job of a sweep, run inside a task of the cluster, which may stop it and start it again.

    Slurm sends SIGTERM to all processes of a task that it requeues, preempts or cancels, and SIGUSR2, as submitit
    asks it to, some time before the time limit. Either stops the job behind a checkpoint. Its status then says that it
    is queued, and whatever Slurm does not start again by itself is put back into its queue.

    Args:
        max_requeues: How often a job goes on after its time limit.
    """

    max_requeues: int
    _asked: list[int] = field(default_factory=list, init=False)

    def __call__(self, command: Command) -> Status:
        """The status the job ends with.

        Raises:
            SystemExit: If it was stopped, and is to be started again.
        """
        put_back = signal.getsignal(_before_limit())
        assert callable(put_back)
        for number in (signal.SIGTERM, _before_limit()):
            signal.signal(number, self._note)
        try:
            return Supervisor(self._is_asked, STOPPED)(command)
        # the second where another process, about to end, still holds the job
        except (KeyboardInterrupt, BlockingIOError):
            if not self._is_asked():
                raise
            return self._put_back(command, put_back)

    def checkpoint(self, command: Command) -> Any:
        """What submitit starts in the next attempt: the same, for the job's state is in its folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Task(self.max_requeues), command)

    def _put_back(self, command: Command, put_back: Callable[[int, Any], Any]) -> Status:
        from submitit.core.utils import UncompletedJobError

        if _is_ending():
            # requeued, preempted or cancelled: what becomes of it is decided, and cannot be seen from here
            sys.exit(128 + signal.SIGTERM)
        try:
            # submitit's: it counts time limits, calls scontrol, and exits
            put_back(self._asked[0], None)
        except UncompletedJobError:
            why = TOO_OFTEN.format(count=self.max_requeues + 1)
            return replace(Status.read(command.folder), state="failed", reason=why).write(command.folder)
        # of several tasks of one job, submitit leaves it to the first
        sys.exit(128 + signal.SIGTERM)

    def _note(self, number: int, _: Any) -> None:
        self._asked.append(number)

    def _is_asked(self) -> bool:
        return bool(self._asked)


def _before_limit() -> int:
    # submitit reads the name of its signal from the environment
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _is_ending() -> bool:
    """Whether Slurm is about to end this task.

    In the time of grace before a preemption it counts as running, and one that ends by itself then is not started
    again; so does one before its time limit.
    """
    from submitit import JobEnvironment

    environment = JobEnvironment()
    if environment.cluster != "slurm":
        return False
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={environment.job_id}", "--format=%T"]
    return _said(asked, otherwise="RUNNING").strip() not in ("RUNNING", "")


def refuse_unavailable(launcher: DictConfig, jobs: int) -> None:
    """Refuse a cluster that is not there, or that would not take the jobs, before anything is written.

    Args:
        launcher: The choice of ``launcher``.
        jobs: How many there are at most.

    Raises:
        UserError: Naming what Slurm has to say, and the way out.
    """
    if launcher.cluster != "slurm":
        return
    with TemporaryDirectory() as place:
        # submitit's own text, so that Slurm judges what it will be given
        executor = _executor(launcher, Path(place), "taut")._executor
        text = executor._make_submission_file_text("true", "")
    words = ["sbatch", "--test-only", *([f"--array=0-{jobs - 1}"] if jobs > 1 else [])]
    tried = subprocess.run(words, input=text, capture_output=True, text=True)  # noqa: S603 (Slurm's own command)
    if tried.returncode:
        raise UserError(f"Slurm would not take these jobs: {_reason(tried.stderr)}.{_partitions(tried.stderr)}")


def _reason(said: str) -> str:
    """The line of what a command of Slurm says that names the reason: the fatal one, or the first."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if "fatal:" in line]
    line = next(iter(fatal or lines), "it said nothing")
    return re.sub(r"^\w+: (?:error: |fatal: )?", "", line).rstrip(".")


def _partitions(said: str) -> str:
    if "partition" not in said.lower():
        return " See launcher.slurm and the other keys of launcher=slurm."
    there = _said(["sinfo", "--noheader", "--format=%R"], otherwise="").split()
    return f" Its partitions are {', '.join(there)}: launcher.slurm.partition=<one of them>."


@dataclass
class Cluster:
    """The cluster, as the driver of one sweep sees it.

    Args:
        launcher: The choice of ``launcher``.
        folder: The sweep's folder.
    """

    launcher: DictConfig
    folder: Path
    _started: dict[str, Any] = field(default_factory=dict, init=False)
    _pause: float = field(default=SHORTEST_PAUSE, init=False)
    _gone: set[str] = field(default_factory=set, init=False)

    def settle(self) -> None:
        """Account for what happened while no driver was there: tasks that ended, and a submission that was cut short.

        Raises:
            RunError: If the cluster cannot be asked.
        """
        if self._known["submitting"]:
            # their numbers are lost, but the name is theirs alone
            if self.launcher.cluster == "slurm":
                _said(["scancel", f"--name={self._known['submitting']}"])
            self._write(submitting=None)
        if self._tasks:
            states = self._states()
            for name in [name for name, task in self._tasks.items() if _is_over(states, task)]:
                self._accounted(name, states)

    def start(self, commands: Sequence[Command]) -> None:
        """Hand over those of some commands that are not there yet.

        Raises:
            UserError: If the cluster refuses the jobs.
        """
        new = [command for command in commands if command.folder.name not in self._tasks]
        if new:
            self._submit(new)
        self._pause = SHORTEST_PAUSE

    def wait(self, waiting: set[str]) -> list[tuple[str, Status]]:
        """Jobs among those waited for that have ended, with their status; where none has, a pause first.

        Args:
            waiting: The names of their folders.
        """
        states = self._states(otherwise=dict.fromkeys(self._tasks.values(), "RUNNING"))
        over = {name for name in waiting if _is_over(states, self._tasks[name])}
        started = {name for name in waiting - over if states[self._tasks[name]] != "PENDING"}
        ended = {name for name in started if Status.read(self.folder / name).state in ENDED}
        # seen twice: a status may reach this machine after the news that its task is over
        told = ended | (over & self._gone)
        self._pause = SHORTEST_PAUSE if ended or over else min(1.2 * self._pause, LONGEST_PAUSE)
        self._gone = over
        if not told:
            time.sleep(self._pause)
        return [(name, self._accounted(name, states)) for name in sorted(told)]

    def _accounted(self, name: str, states: dict[str, str]) -> Status:
        """The status of a job whose task is over; failed if that ended before it could write one."""
        task = self._tasks.pop(name)
        self._write()
        status = Status.read(self.folder / name)
        if status.state in ENDED:
            return status
        why = f"the cluster ended task {task} ({states.get(task, 'it no longer knows why').lower()})"
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        return replace(status, state="failed", reason=why).write(self.folder / name)

    def _submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            status = Status.read(command.folder)
            if status.state == "failed":
                # or it would be taken for the end of the attempt that is about to begin
                replace(status, state="queued", reason=None).write(command.folder)
        name = f"taut-{re.sub(r'[^A-Za-z0-9_.-]+', '', self.folder.name)[:40]}-{token_hex(4)}"
        self._write(submitting=name)
        executor = _executor(self.launcher, self.folder, name)
        try:
            tasks = executor.map_array(Task(self.launcher.max_requeues), commands)
        except Exception as error:
            self._write(submitting=None)
            if type(error).__module__.startswith("submitit"):
                raise UserError(f"Slurm would not take these jobs: {_reason(str(error))}.") from error
            raise
        for command, task in zip(commands, tasks, strict=True):
            self._tasks[command.folder.name], self._started[task.job_id] = task.job_id, task
        self._write(submitting=None)

    def _states(self, otherwise: dict[str, str] | None = None) -> dict[str, str]:
        """The state of every task that the cluster knows."""
        if self.launcher.cluster != "slurm":
            return {task: "RUNNING" for task in self._tasks.values() if self._runs_here(task)}
        words = ["squeue", "--noheader", "--array", "--me", "--states=all", "--format=%i %T"]
        said = _said(words, None if otherwise is None else "")
        if not said and otherwise:
            # Slurm does not answer, which happens when it is busy or started anew
            return otherwise
        return dict(line.split() for line in said.splitlines() if len(line.split()) == 2)

    def _runs_here(self, task: str) -> bool:
        """Whether a task of ``launcher.cluster=local`` runs, which is a process of this machine."""
        if task in self._started:
            return not self._started[task].done()
        with suppress(OSError):
            os.kill(int(task), 0)
            return True
        return False

    @property
    def _tasks(self) -> dict[str, str]:
        return self._known["tasks"]

    @cached_property
    def _known(self) -> dict[str, Any]:
        path = self.folder / IDS
        try:
            known = json.loads(read_regular(path))
            return {"submitting": _checked(known["submitting"], known["tasks"]), "tasks": dict(known["tasks"])}
        except FileNotFoundError:
            return {"submitting": None, "tasks": {}}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged, so that nobody knows which tasks of the cluster run this sweep; cancel them, and "
                "remove the file."
            ) from error

    def _write(self, **changes: Any) -> None:
        self._known.update(changes)
        write_json(self.folder / IDS, self._known)


def _checked(submitting: str | None, tasks: dict[str, str]) -> str | None:
    """The name of a submission, once it and the tasks are found to be of the form in which they are written.

    The folder may come from somebody else, and what it names is cancelled and written to.

    Raises:
        ValueError: If they are not.
    """
    own = submitting is None or re.fullmatch(r"taut-[A-Za-z0-9_.-]+", submitting)
    inside = all(Path(name).name == name and re.fullmatch(r"\d+(_\d+)?", task) for name, task in tasks.items())
    if not own or not inside:
        raise ValueError("not written by a driver")
    return submitting


def _is_over(states: dict[str, str], task: str) -> bool:
    # Slurm forgets a task some minutes after its end
    return states.get(task, "COMPLETED") in OVER


def _said(words: Iterable[str], otherwise: str | None = None) -> str:
    """What a command of Slurm prints; ``otherwise`` where it fails.

    Raises:
        RunError: If it fails and there is nothing to say otherwise.
    """
    done = subprocess.run(list(words), capture_output=True, text=True)  # noqa: S603 (Slurm's own command)
    if done.returncode == 0:
        return done.stdout
    if otherwise is None:
        raise RunError(f"Slurm does not answer: {_reason(done.stderr)}. The same command goes on with the sweep.")
    return otherwise


def _executor(launcher: DictConfig, folder: Path, name: str) -> Any:
    import submitit

    own = {
        "max_num_timeout": launcher.max_requeues,
        # -P: else a task would look for every module in the user's folder first, a random.py or torch.py among them
        "python": f"{shlex.quote(sys.executable)} -P",
    }
    own = {f"{launcher.cluster}_{key}": value for key, value in own.items()}
    # no folder for each task: submitit makes it when the task has started, and a fast one looks for it before
    executor = submitit.AutoExecutor(folder / ".submitit", cluster=launcher.cluster, **own)
    executor.update_parameters(**dict(_parameters(launcher, name)))
    return executor


def _parameters(launcher: DictConfig, name: str) -> Iterator[tuple[str, Any]]:
    for key in ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb"):
        if launcher.get(key) is not None:
            yield key, launcher[key]
    yield "name", name
    if launcher.cluster == "slurm":
        yield "slurm_array_parallelism", launcher.n_jobs
        own = {key: value for key, value in (launcher.slurm or {}).items() if value is not None}
        # some clusters requeue nothing that does not ask for it
        own["additional_parameters"] = {"requeue": True, **own.get("additional_parameters", {})}
        for key, value in own.items():
            yield f"slurm_{key}", value
