"""The other processes of a run on this machine: started by the first, watched by it, and never left behind.

Each is joined to the first by a socket. Through it a process sends its error message; and since the kernel closes it
with whoever holds the other end, a process learns at once that the first is gone, however it went.

Lightning's own launcher (``lightning.fabric.strategies.launchers.subprocess_script``) does not do: where a child fails,
its observer kills the first process as well (SIGKILL), so that neither the child's error nor a checkpoint nor an exit
code remains; where the first process is killed, its children wait in a collective for ever; and it starts the children
only when the trainer does.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from taut.errors import RunError, UserError
from taut.runtime.launch import first, launched

PARENT_SOCKET = "TAUT_PARENT_SOCKET"
"""Environment variable with the descriptor of the socket, in the processes that the first one starts."""
SHUTDOWN_SECONDS = 5.0
"""How long what should end by itself may take."""
CAUSE_SECONDS = 3.0
"""How long an error of this process may precede the news that another one failed and caused it."""
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_to_first: socket.socket | None = None


class WorkerFailed(RunError):
    """Another process of the run ended before its time.

    Args:
        message: Which, and what it said.
        code: The exit code of the command.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def end_with_parent() -> None:
    """End this process at once when the one that started it is gone; do nothing where none did."""
    global _to_first
    # popped, or a process that this one starts would take it for its own
    descriptor = os.environ.pop(PARENT_SOCKET, None)
    if descriptor is not None:
        _to_first = socket.socket(fileno=int(descriptor))
        # a child that held a copy would keep the socket open after the end of this process
        _to_first.set_inheritable(False)
        threading.Thread(target=_kill_when_closed, args=(int(descriptor),), daemon=True).start()


def report_end(sentence: str) -> None:
    """Print how this process ends; where the first process started it, send it there instead."""
    if _to_first is not None:
        with suppress(OSError):
            _to_first.sendall(sentence.encode())
            # ends the message: the first process reads until then
            _to_first.shutdown(socket.SHUT_WR)
    elif first():
        print(sentence, file=sys.stderr, flush=True)
    else:
        launch = launched()
        print(f"process {launch.rank}: {sentence}" if launch else sentence, file=sys.stderr, flush=True)


@contextmanager
def worker_processes(count: int, command: list[str]) -> Iterator[None]:
    """Run a block in ``count`` processes of this machine: here, and where this command is started again.

    Lightning finds in the environment that all have been started. Where this process is itself one of several, nothing
    is started.

    Args:
        count: Number of processes, this one included.
        command: What starts another of them.

    Raises:
        WorkerFailed: If another process failed first, with what it said.
        SystemExit: If another process was asked to stop.
    """
    if count == 1 or "LOCAL_RANK" in os.environ or launched():
        yield
        return
    workers = Workers(count, command)
    try:
        yield
    except BaseException as error:
        workers.block_ended.set()
        # a collective that fails may be the end of another process; these errors are always this one's own
        own = isinstance(error, (UserError, RunError, SystemExit, KeyboardInterrupt))
        failure = None if own else workers.first_failure()
        workers.end(timeout=0)
        if failure is None:
            raise
        raise failure.error(count) from error
    workers.block_ended.set()
    workers.end(timeout=SHUTDOWN_SECONDS)


@dataclass(frozen=True)
class WorkerExit:
    """Exit code and last message of another process.

    Args:
        rank: Which one.
        code: Its exit code; negative for a signal.
        message: What it sent before it ended.
    """

    rank: int
    code: int
    message: str

    def error(self, world: int) -> WorkerFailed | SystemExit:
        """The error of the command that follows."""
        # one that is still importing has no handler yet, and dies of a signal that is meant for all of them
        code = 128 - self.code if self.code < 0 else self.code
        if code in STOPPED:
            return SystemExit(code)
        who = f"Process {self.rank} of {world} (counted from 0)"
        if self.message:
            return WorkerFailed(f"{who} failed: {self.message}", self.code if self.code > 0 else 1)
        if self.code < 0:
            name = signal.Signals(-self.code).name
            memory = ", perhaps because memory ran out" if -self.code == signal.SIGKILL else ""
            return WorkerFailed(f"{who} was ended by {name}{memory}.", 1)
        return WorkerFailed(f"{who} ended without a word, exit code {self.code}.", 1)


@dataclass
class Workers:
    """The other processes, seen from the first.

    Args:
        world: Number of processes, the first included.
        command: What starts one of them.
    """

    world: int
    command: list[str]
    block_ended: threading.Event = field(default_factory=threading.Event)
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)
    _failures: list[WorkerExit] = field(default_factory=list)
    _failed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
        os.environ |= {"LOCAL_RANK": "0", "WORLD_SIZE": str(self.world)}
        os.environ.pop("RANK", None)
        for rank in range(1, self.world):
            self._start(rank)

    def first_failure(self) -> WorkerExit | None:
        """Exit of the process that failed first, if one has failed or does so very soon."""
        self._failed.wait(CAUSE_SECONDS)
        return self._failures[0] if self._failures else None

    def end(self, timeout: float) -> None:
        """Wait for each process so many seconds, then kill it."""
        for process, own in zip(self._processes, self._sockets, strict=True):
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            own.close()

    def _start(self, rank: int) -> None:
        own, theirs = socket.socketpair()
        # closed here after the start: with a copy open the end of the other process would go unseen
        with theirs:
            process = subprocess.Popen(  # noqa: S603 (our own command, by the running interpreter)
                self.command,
                env={**os.environ, "LOCAL_RANK": str(rank), PARENT_SOCKET: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
            )
        self._processes.append(process)
        self._sockets.append(own)
        threading.Thread(target=self._watch, args=(rank, process, own), daemon=True).start()

    def _watch(self, rank: int, process: "subprocess.Popen[bytes]", own: socket.socket) -> None:
        message = b""
        with suppress(OSError):
            while part := own.recv(1 << 16):
                message += part
        # the socket is closed, but the process may hang on its way out
        with suppress(subprocess.TimeoutExpired):
            process.wait(SHUTDOWN_SECONDS)
        process.kill()
        code = process.wait()
        if code:
            # replace: a kill may cut the message within a character
            self._failures.append(WorkerExit(rank, code, message.decode(errors="replace")))
            self._failed.set()
            self._end_all()

    def _end_all(self) -> None:
        """End the run from this thread if the first process does not: it may wait for one that never comes."""
        if self.block_ended.wait(SHUTDOWN_SECONDS):  # as a rule its collectives fail, and the block with them
            return
        alive = [process for process in self._processes if process.poll() is None]
        for process in alive:
            process.kill()
        if not alive or not self.block_ended.wait(SHUTDOWN_SECONDS):
            error = self._failures[0].error(self.world)
            # past the buffers of Python: the main thread may hang with their lock
            os.write(2, f"{error}\n".encode())
            # SystemExit would end this thread alone
            os._exit(error.code if isinstance(error.code, int) else 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


SUPERVISOR_PIPE = "TAUT_SUPERVISOR_PIPE"
"""Environment variable with the descriptor of a pipe, in the jobs that a sweep starts."""


def end_with_supervisor() -> None:
    """End this process and those it started, at once, when the other end of the pipe in the environment is closed.

    A supervisor that is killed cannot end its jobs; the kernel closes its end of the pipe.
    """
    descriptor = os.environ.pop(SUPERVISOR_PIPE, None)
    if descriptor is not None:
        threading.Thread(target=_kill_when_closed, args=(int(descriptor),), daemon=True).start()


def _kill_when_closed(descriptor: int) -> None:
    """Wait until the other end of a socket or pipe is closed, then kill this process, and the group that it leads."""
    with suppress(OSError):
        os.read(descriptor, 1)
    # only as its leader: otherwise the group is that of the user's shell or of a supervisor
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
