"""Python commands as forks of one process that has imported everything: real processes, without seconds of imports.

``ForkServer().run(script, *words)`` and ``.start(...)`` are ``subprocess.run`` and ``subprocess.Popen`` of
``python script words``, with their arguments, and give what these give. Only the new interpreter is left out: the
server, asked through a socket, forks a process, which takes the folder, the environment, the descriptors and the
session that it is given, becomes a child of the one that asked, and runs the script as ``__main__``. What such a
process starts in turn (a job of a sweep, another rank) is forked in the same way by a server of its own, split off
before the script began; ``FRESH`` in its environment leaves it to start new interpreters, as users' commands do.

Linux only, for it alone lets a process adopt; elsewhere new interpreters are started.
"""

import atexit
import ctypes
import fcntl
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from itertools import dropwhile
from pathlib import Path
from typing import Any, NoReturn

FRESH = "TEST_FRESH_CHILDREN"
IMPORTED = [
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "scipy.stats",
    "sklearn.cluster",
    "sklearn.decomposition",
    "taut.cli",
    "taut.config.ranges",
    "taut.commands.train",
    "taut.commands.evaluate",
    "taut.commands.complete",
]
"""What most commands import. W&B is not among them: some tests have it missing."""
CONF = Path(__file__).resolve().parents[2] / "conf"
ADOPT, NAME = 36, 15  # PR_SET_CHILD_SUBREAPER, PR_SET_NAME
HEAD = 8  # bytes that hold the length of a request
MANY = 64  # descriptors in one request
_exec = getattr(subprocess, "_fork_exec", None)
_here = threading.local()


def forking() -> bool:
    """Whether this thread is starting a process through a server right now."""
    return getattr(_here, "forking", False)


def is_server(process: int) -> bool:
    """Whether a process of this machine only waits to be asked for forks."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip() == "forkserver"
    except OSError:
        return False


class ForkServer:
    """Starts Python scripts in forks of a process that has imported what they import."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()

    def run(self, script: str | Path, *words: str, **settings: Any) -> "subprocess.CompletedProcess[Any]":
        """``subprocess.run([sys.executable, script, *words], **settings)``."""
        with _Through(self):
            arguments = [sys.executable, str(script), *words]
            timeout, check = settings.pop("timeout", None), settings.pop("check", False)
            said = settings.pop("input", None)
            if said is not None:
                settings["stdin"] = subprocess.PIPE
            if settings.pop("capture_output", False):
                settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = subprocess.Popen(arguments, **settings)
        with process:
            try:
                out, err = process.communicate(said, timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
        if check:
            done.check_returncode()
        return done

    def start(self, script: str | Path, *words: str, **settings: Any) -> "subprocess.Popen[Any]":
        """``subprocess.Popen([sys.executable, script, *words], **settings)``."""
        with _Through(self):
            return subprocess.Popen([sys.executable, str(script), *words], **settings)

    def replacing(self) -> AbstractContextManager[None]:
        """A block in which this process starts Python scripts in forks."""
        return _Through(self)

    def ask(self, *arguments: Any) -> int:
        """What stands in for ``_fork_exec``."""
        with self._lock:
            return (self._line or self._begin()).ask(*arguments)

    def end(self) -> None:
        """End the server; what it has started goes on."""
        if self._line is not None and self._process is not None:
            self._line.socket.close()
            self._process.wait()
            self._line = self._process = None

    def _begin(self) -> "Line":
        own, theirs = socket.socketpair()
        with theirs:
            before, subprocess._fork_exec = subprocess._fork_exec, _exec
            try:
                self._process = subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                )
            finally:
                subprocess._fork_exec = before
        self._line = Line(own)
        assert self._line.socket.recv(1) == b".", "the process that forks commands could not import them"
        return self._line


class _Through(AbstractContextManager[None]):
    """In this thread, for now, processes are started by a server."""

    lock = threading.RLock()

    def __init__(self, server: ForkServer) -> None:
        self.server = server

    def __enter__(self) -> None:
        self.lock.acquire()
        _here.forking = True
        if _exec is not None and sys.platform == "linux":
            subprocess._fork_exec = self.server.ask

    def __exit__(self, *_: object) -> None:
        subprocess._fork_exec = _exec
        _here.forking = False
        self.lock.release()


class Line:
    """The way to a server from the process whose children it forks."""

    def __init__(self, line: socket.socket) -> None:
        self.socket = line
        self.lock = threading.Lock()

    def ask(self, *arguments: Any) -> int:
        """The process id of a child that is what ``_fork_exec`` would have made; made by it if it is no Python script.

        The arguments that ``subprocess`` gives are the same from Python 3.11 on.
        """
        words, _, _, kept, folder, environment, *pipes = arguments[:12]
        new_session, group, hook = arguments[15], arguments[16], arguments[21]
        words = [os.fsdecode(word) for word in words]
        script = _script(words)
        if script is None or hook is not None or len(kept) > MANY:
            return _exec(*arguments)
        streams = [pipe if pipe != -1 else number for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        numbers = [number for number in kept if number != arguments[13]]
        if environment is None:
            environment = [name + b"=" + value for name, value in os.environb.items()]
        request = {
            "words": script,
            "folder": os.path.abspath(os.fsdecode(folder) if folder is not None else "."),
            "environment": [os.fsdecode(pair) for pair in environment],
            "numbers": numbers,
            "session": bool(new_session),
            "group": group,
        }
        with self.lock:
            _adopting(True)
            try:
                _send(self.socket, request, [*streams, *numbers])
                return int.from_bytes(_exactly(self.socket, HEAD), "big")
            finally:
                _adopting(False)


def _script(words: list[str]) -> list[str] | None:
    """The words after ``python``, ``-P`` and ``-u`` where they start one of our scripts or modules."""
    if words[:1] != [sys.executable]:
        return None
    words = list(dropwhile(lambda word: word in ("-P", "-u"), words[1:]))
    named = words[:1] == ["-m"] and words[1].split(".")[0] in ("taut", "submitit")
    return words if named or (words and words[0].endswith(".py")) else None


def _adopting(on: bool) -> None:
    """While the process between the server and the new one ends, its child falls to this process."""
    assert ctypes.CDLL(None).prctl(ADOPT, int(on), 0, 0, 0) == 0


def _called(name: str) -> None:
    ctypes.CDLL(None).prctl(NAME, name.encode(), 0, 0, 0)


def _send(line: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    content = json.dumps(request).encode()
    socket.send_fds(line, [len(content).to_bytes(HEAD, "big")], descriptors)
    line.sendall(content)


def _received(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(line, HEAD, MANY + 3)
    if not head:
        return None
    length = int.from_bytes(head + _exactly(line, HEAD - len(head)), "big")
    return json.loads(_exactly(line, length)), list(descriptors)


def _exactly(line: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = line.recv(length - len(content))
        if not part:
            raise ConnectionError("the process that forks commands is gone")
        content += part
    return content


def serve(line: socket.socket) -> NoReturn:
    """Fork what is asked for until nobody can ask any more."""
    _called("forkserver")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        asked = None
        with suppress(ConnectionError):
            asked = _received(line)
        if asked is None:
            os._exit(0)
        request, descriptors = asked
        told, telling = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:
                os.write(telling, child.to_bytes(HEAD, "big"))
                os._exit(0)
            os.close(told)
            os.close(telling)
            line.close()
            _become(request, descriptors)
        for descriptor in (*descriptors, telling):
            os.close(descriptor)
        os.waitpid(between, 0)
        line.sendall(os.read(told, HEAD))
        os.close(told)


def _become(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Be the process that was asked for, to its end."""
    _called("python")
    if request["session"]:
        os.setsid()
    elif request["group"] >= 0:
        os.setpgid(0, request["group"])
    environment = dict(pair.split("=", 1) for pair in request["environment"])
    if FRESH not in environment:
        _split_off_a_server()
    _take(descriptors, [0, 1, 2, *request["numbers"]])
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request["folder"])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _end(_exit_code(lambda: _run(request["words"])))


def _split_off_a_server() -> None:
    """Before anything is done here, set apart what this process's own children are forked from."""
    own, theirs = socket.socketpair()
    if os.fork() == 0:
        os.dup2(theirs.fileno(), 3)
        os.closerange(4, 1024)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.close(nothing)
        theirs.detach()
        own.detach()
        serve(socket.socket(fileno=3))
    theirs.close()
    _take([own.detach()], [1000])
    subprocess._fork_exec = Line(socket.socket(fileno=1000)).ask


def _take(descriptors: list[int], numbers: list[int]) -> None:
    """Give descriptors these numbers, whatever numbers they have."""
    above = max([*descriptors, *numbers]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number, inheritable=number != 1000)
        os.close(descriptor)


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv = [words[1], *words[2:]]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def _exit_code(run: Callable[[], None]) -> int:
    """What an interpreter would leave with."""
    try:
        run()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """As at the end of an interpreter: threads are waited for, what was registered is done, buffers are emptied."""
    with suppress(BaseException):
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _warm() -> None:
    for name in IMPORTED:
        import_module(name)
    _compose_once()
    import torch
    from helpers.pictures import coarsen

    coarsen()

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a child's collections need not walk what it shares


def _compose_once() -> None:
    """Let the parser of overrides learn its grammar, a tenth of a second, and forget what Hydra found meanwhile."""
    from hydra import compose, initialize_config_dir
    from hydra.core.singleton import Singleton

    state = Singleton.get_state()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train", ["k=5", "network.hidden=[8]"], return_hydra_config=True)
    Singleton.set_state(state)


if __name__ == "__main__":
    line = socket.socket(fileno=int(sys.argv[1]))
    line.set_inheritable(False)
    _warm()
    line.sendall(b".")
    serve(line)
