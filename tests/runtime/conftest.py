"""Commands of one and of two processes that can be struck, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LIMIT = 20
"""Seconds in which whatever goes wrong must have ended everywhere."""


class ForkServer:
    """Starts runs in forks of one warm process, one at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HERE / "fork_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, folder, *words, fault=None) -> "Started":
        mark = uuid.uuid4().hex
        environ = {"TAUT_MARK": mark} | ({"FAULT": fault} if fault else {})
        request = {"folder": str(folder), "words": words, "log": str(folder / "log"), "environ": environ}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Started(self, int(self.process.stdout.readline()), folder / "log", mark)

    def run(self, folder, *words, fault=None) -> "Started":
        started = self.start(folder, *words, fault=fault)
        started.wait()
        return started


class Started:
    """A run and what became of it."""

    def __init__(self, fork_server, pid, log, mark) -> None:
        self.fork_server, self.pid, self.log, self.mark = fork_server, pid, log, mark
        self.code: int | None = None
        self._before = log.stat().st_size if log.exists() else 0

    def wait(self) -> int:
        """Its exit code; everything it started has ended by then, or soon enough."""
        self.code = int(self.fork_server.process.stdout.readline())
        deadline = time.monotonic() + LIMIT
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "it left processes behind"
        return self.code

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[self._before :] if self.log.exists() else ""

    def processes(self) -> list[int]:
        """Processes that carry its mark, itself and the dead apart."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._carries(pid)]

    def _carries(self, pid: int) -> bool:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
            return f"TAUT_MARK={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


@pytest.fixture(scope="session")
def fork_server():
    server = ForkServer()
    yield server
    server.process.stdin.close()
    server.process.wait()


@pytest.fixture(autouse=True)
def _only_where_processes_can_be_seen():
    if not Path("/proc/self/environ").exists():
        pytest.skip("the processes of a run are looked for in /proc")
