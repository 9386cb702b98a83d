"""Supervision of one job of a sweep: its process, its log, its end, and the reason of a failure in one sentence."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from taut.commands.sweep.job import LOCK, LOG, PRUNE, Status
from taut.config.overrides import quoted
from taut.config.program import Program
from taut.config.run_folder import is_run, read_result
from taut.files import held, not_through_a_link, read_regular
from taut.runtime.workers import SUPERVISOR_PIPE

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ERROR = re.compile(r"[\w.]*(?:Error|Exception|Interrupt)\b(?::|$)")
HINTS = {
    signal.SIGKILL: "killed by SIGKILL: out of memory, or by hand",
    signal.SIGSEGV: "killed by SIGSEGV: a segmentation fault",
    signal.SIGABRT: "killed by SIGABRT: a library gave up",
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGINT: "stopped by Ctrl-C",
}
LONGEST = 300


def reason(code: int, said: str) -> str:
    """Reason why a process ended with ``code``.

    Args:
        code: Its exit code; negative for the signal that ended it.
        said: What it wrote to standard output and error.
    """
    # shells report a signal as 128 + its number
    number = -code if code < 0 else code - 128
    if number in HINTS:
        return HINTS[signal.Signals(number)]
    if code < 0:
        return f"killed by {signal.Signals(number).name}"
    if code == 0:
        return "ended with exit code 0 before its result was written"
    return (_last_error(said) or f"ended with exit code {code} and said nothing")[:LONGEST]


def _last_error(said: str) -> str:
    # progress bars return to the start of their line instead of ending it
    lines = [ESCAPES.sub("", line).strip() for line in said.replace("\r", "\n").splitlines()]
    lines = [line for line in lines if line and not line.startswith("Go on with:")][-60:]
    errors = [line for line in lines if ERROR.match(line)]
    return (errors or lines or [""])[-1]


GRACE = 20.0
"""Seconds between the request to stop and the end of patience."""
PAUSE = 0.05
ASKS_TO_STOP = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALLED = {*(-number for number in ASKS_TO_STOP), *(128 + number for number in ASKS_TO_STOP)}
"""Exit codes of a process that was asked to stop."""
NEWS = 2.0
"""Seconds by which a process may end of such a signal before this one, which was sent it as well, sees it."""
ONE_TASK = {"SLURM_JOB_NAME": "interactive"} if "SLURM_JOB_ID" in os.environ else {}
"""Has Lightning start the processes of a job itself, where Slurm has started one task for all of it."""


@dataclass(frozen=True)
class Command:
    """Words and place of the process that a supervisor starts.

    Args:
        folder: The job's run folder, absolute.
        train: The words of the training.
        program: What trains; its ``evaluate`` evaluates.
        evaluate: The words of an evaluation after the training, or None for none.
        timeout: Seconds for both; None for no limit.
        env: Added to the environment of its process.
    """

    folder: Path
    train: Sequence[str]
    program: Program
    evaluate: Sequence[str] | None = None
    timeout: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Deadline of a command, and the lock that its processes inherit."""

    command: Command
    deadline: float | None
    lock: int


class Pruned(Exception):
    """A search has given the job up, for the reason that its folder holds."""


@dataclass
class Supervisor:
    """Runs one job in a process of its own and leaves a status, whatever happens to the process.

    The lock of the folder is held by the supervisor and by the process it starts: a second supervisor of the same
    job waits, and then finds it finished. If this process dies, the other is killed.

    Args:
        stopping: Asked whether to stop; the process then gets SIGTERM, and time to write a checkpoint.
        stopped: Why a job that was stopped waits.
    """

    stopping: Callable[[], bool] = bool
    stopped: str = "stopped with the sweep"
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __call__(self, command: Command) -> Status:
        """The status the job ends with.

        Raises:
            BlockingIOError: If asked to stop while another process runs the job.
            KeyboardInterrupt: If asked to stop; the job is queued again.
        """
        command.folder.mkdir(parents=True, exist_ok=True)
        with held(command.folder / LOCK, wait=lambda: not self.stopping()) as lock:
            # read under the lock: another supervisor may have finished it while this one waited
            before = Status.read(command.folder)
            if before.state in ("finished", "pruned"):
                return before
            started = time.monotonic()
            status = before.begun().write(command.folder)
            try:
                end = self._ended(command, started, lock)
            except Pruned as pruned:
                end = {"state": "pruned", "reason": str(pruned)}
            # KeyboardInterrupt, which a stop raises, is no Exception
            except BaseException:
                self._end_process()
                status.after(time.monotonic() - started, state="queued", reason=self.stopped).write(command.folder)
                raise
            return status.after(time.monotonic() - started, **end).write(command.folder)

    def _ended(self, command: Command, started: float, lock: int) -> dict[str, object]:
        """Everything a command starts, one after another; the fields of the status it ends with."""
        watch = Watch(command, None if command.timeout is None else started + command.timeout, lock)
        again = is_run(command.folder)
        words = [f"resume={quoted(str(command.folder))}"] if again else command.train
        failure = self._failure([*command.program.start(), *words], watch)
        score = None
        if failure is None:
            score = _score(command.folder)
            if score is None:
                failure = {"reason": reason(0, ""), "exit_code": 0}
        if failure is None and command.evaluate is not None:
            place = f"run={quoted(str(command.folder))}"
            words = [*command.program.start("evaluate"), place, *command.evaluate]
            failure = self._failure(words, watch, "evaluation: ")
        if failure is not None:
            return {"state": "failed", "score": score, **failure}
        return {"state": "finished", "score": score, "exit_code": 0, "reason": None}

    def _failure(self, program: Sequence[str], watch: Watch, what: str = "") -> dict[str, object] | None:
        """Failure of one process, if it failed."""
        log = watch.command.folder / LOG
        since = log.stat().st_size if log.exists() else 0
        code = self._run(program, log, watch)
        if code == 0:
            return None
        if code is None:
            return {"reason": f"{what}timed out", "exit_code": -signal.SIGKILL}
        said = log.read_bytes()[since:].decode(errors="replace")
        return {"reason": what + reason(code, said), "exit_code": code}

    def _run(self, program: Sequence[str], log: Path, watch: Watch) -> int | None:
        """The exit code of a program; None if it was out of time."""
        watched, watching = os.pipe()
        try:
            with open(log, "ab", opener=not_through_a_link) as output:
                self._process = subprocess.Popen(  # noqa: S603 (our own program, by the running interpreter)
                    list(program),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C on the terminal then reaches the supervisor alone, and the whole group can be killed
                    start_new_session=True,
                    # the pipe closes with the supervisor, however that ends; the lock lasts as long as the job
                    pass_fds=(watched, watch.lock),
                    env={**os.environ, **ONE_TASK, **watch.command.env, SUPERVISOR_PIPE: str(watched)},
                )
            while self._process.poll() is None:
                if self.stopping():
                    raise KeyboardInterrupt
                if (watch.command.folder / PRUNE).exists():
                    raise Pruned(read_regular(watch.command.folder / PRUNE).decode())
                if watch.deadline is not None and time.monotonic() > watch.deadline:
                    self._end_process()
                    return None
                time.sleep(PAUSE)
            if self._process.returncode in SIGNALLED and self._is_stopped_soon():
                raise KeyboardInterrupt
            return self._process.returncode
        finally:
            self._end_process()
            os.close(watched)
            os.close(watching)

    def _is_stopped_soon(self) -> bool:
        """Whether this process, too, is asked to stop: a cluster signals all at once, and who is first is chance."""
        deadline = time.monotonic() + NEWS
        while not self.stopping() and time.monotonic() < deadline:
            time.sleep(PAUSE)
        return self.stopping()

    def _end_process(self) -> None:
        """Ask the process to stop, wait for its checkpoint, and kill what is left of its group."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        with suppress(ProcessLookupError):
            # also after a regular end: workers that the job started may outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None


def _score(folder: Path) -> float | None:
    """The best validation bound of a finished run, in nats."""
    result = read_result(folder)
    try:
        return float(result["validation"]["bound"]) if result["status"] == "finished" else None
    except (ValueError, KeyError, TypeError):
        return None
