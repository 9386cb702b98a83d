"""The other processes of a run on this machine: started by the first, watched by it, and never left behind.

Each is joined to the first by a socket. Through it goes what a process has to say when it fails; and since the kernel
closes it with whoever holds the other end, a process learns at once that the first is gone, however it went.
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
GRACE = 5.0
"""Seconds in which what should end by itself may do so."""
BLAME = 3.0
"""Seconds in which it shows that an error of this process is the end of another one."""
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_line: socket.socket | None = None


class LostProcess(RunError):
    """Another process of the run ended before its time.

    Args:
        message: Which, and what it said.
        code: The exit code of the command.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def end_with_parent() -> None:
    """In a process that another one started: end at once when the other is gone. Elsewhere nothing."""
    global _line
    descriptor = os.environ.pop(PARENT_SOCKET, None)
    if descriptor is not None:
        _line = socket.socket(fileno=int(descriptor))
        _line.set_inheritable(False)
        threading.Thread(target=_end_with, args=(_line,), daemon=True).start()


def say(sentence: str) -> None:
    """Tell the terminal how this process ends; or the first one, if that one started it."""
    if _line is not None:
        with suppress(OSError):
            _line.sendall(sentence.encode())
            _line.shutdown(socket.SHUT_WR)
    elif first():
        print(sentence, file=sys.stderr, flush=True)
    else:
        launch = launched()
        print(f"process {launch.rank}: {sentence}" if launch else sentence, file=sys.stderr, flush=True)


@contextmanager
def run_workers(count: int, command: list[str]) -> Iterator[None]:
    """Run a block in ``count`` processes of this machine: here, and where this command is started again.

    Lightning finds in the environment that all have been started. Where this process is itself one of several, nothing
    is started.

    Args:
        count: Number of processes, this one included.
        command: What starts another of them.

    Raises:
        LostProcess: If another process failed first, with what it said.
        SystemExit: If another process was asked to stop.
    """
    if count == 1 or "LOCAL_RANK" in os.environ or launched():
        yield
        return
    others = Workers(count, command)
    try:
        yield
    except BaseException as error:
        others.leaving.set()
        fate = None if _own(error) else others.fate()
        others.end(patience=0)
        if fate is None:
            raise
        raise fate.error(count) from error
    others.leaving.set()
    others.end(patience=GRACE)


@dataclass(frozen=True)
class WorkerExit:
    """How another process ended.

    Args:
        rank: Which one.
        code: Its exit code; negative for a signal.
        said: Its last words.
    """

    rank: int
    code: int
    said: str

    def error(self, world: int) -> LostProcess | SystemExit:
        """What that means for the command."""
        if self.code in STOPPED:
            return SystemExit(self.code)
        who = f"Process {self.rank} of {world} (counted from 0)"
        if self.said:
            return LostProcess(f"{who} failed: {self.said}", self.code if self.code > 0 else 1)
        if self.code < 0:
            name = signal.Signals(-self.code).name
            memory = ", perhaps because memory ran out" if -self.code == signal.SIGKILL else ""
            return LostProcess(f"{who} was ended by {name}{memory}.", 1)
        return LostProcess(f"{who} ended without a word, exit code {self.code}.", 1)


@dataclass
class Workers:
    """The other processes, seen from the first.

    Args:
        world: Number of processes, the first included.
        command: What starts one of them.
    """

    world: int
    command: list[str]
    leaving: threading.Event = field(default_factory=threading.Event)
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _lines: list[socket.socket] = field(default_factory=list)
    _fates: list[WorkerExit] = field(default_factory=list)
    _lost: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "NODE_RANK": "0"}
        os.environ |= {"LOCAL_RANK": "0", "WORLD_SIZE": str(self.world)}
        os.environ.pop("RANK", None)
        for rank in range(1, self.world):
            self._start(rank)

    def fate(self) -> WorkerExit | None:
        """How the first process that was lost ended, if one is lost now or very soon."""
        self._lost.wait(BLAME)
        return self._fates[0] if self._fates else None

    def end(self, patience: float) -> None:
        """Wait for all so many seconds each, then kill what is left."""
        for process, line in zip(self._processes, self._lines, strict=True):
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            line.close()

    def _start(self, rank: int) -> None:
        own, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 (our own command, by the running interpreter)
                self.command,
                env={**os.environ, "LOCAL_RANK": str(rank), PARENT_SOCKET: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
            )
        self._processes.append(process)
        self._lines.append(own)
        threading.Thread(target=self._watch, args=(rank, process, own), daemon=True).start()

    def _watch(self, rank: int, process: "subprocess.Popen[bytes]", line: socket.socket) -> None:
        said = b""
        with suppress(OSError):
            while part := line.recv(1 << 16):
                said += part
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()
        code = process.wait()
        if code:
            self._fates.append(WorkerExit(rank, code, said.decode(errors="replace")))
            self._lost.set()
            self._end_all()

    def _end_all(self) -> None:
        """The first process notices by itself, its collectives fail; unless it waits for one who never comes."""
        if self.leaving.wait(GRACE):
            return
        alive = [process for process in self._processes if process.poll() is None]
        for process in alive:
            process.kill()
        if not alive or not self.leaving.wait(GRACE):
            error = self._fates[0].error(self.world)
            os.write(2, f"{error}\n".encode())
            os._exit(error.code if isinstance(error.code, int) else 1)


def _end_with(line: socket.socket) -> None:
    with suppress(OSError):
        line.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


def _own(error: BaseException) -> bool:
    """Whether an error can only be this process's own."""
    return isinstance(error, (UserError, RunError, SystemExit, KeyboardInterrupt))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


SUPERVISOR_PIPE = "TAUT_SUPERVISOR_PIPE"


def end_with_supervisor() -> None:
    """End this process and those it started, at once, when the other end of the pipe in the environment is closed.

    A watcher that is killed cannot say so; the kernel closes its end of the pipe.
    """
    descriptor = os.environ.pop(SUPERVISOR_PIPE, None)
    if descriptor is not None:
        threading.Thread(target=_end_at_close, args=(int(descriptor),), daemon=True).start()


def _end_at_close(descriptor: int) -> None:
    os.read(descriptor, 1)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
