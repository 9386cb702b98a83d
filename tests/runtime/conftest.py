"""Commands of one and of two processes that can be struck, killed and resumed."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from helpers.forkserver import FRESH, is_server

HERE = Path(__file__).parent
LIMIT = 20
"""Seconds in which whatever goes wrong must have ended everywhere."""


class FaultyTrain:
    """Starts ``train_with_fault.py``, each time in a session of its own."""

    def __init__(self, commands) -> None:
        self.commands = commands

    def start(self, folder, *words, fault=None, fresh=False) -> "Started":
        """With ``fresh``, the other process of a run begins with its imports, as a user's does."""
        mark = uuid.uuid4().hex
        environ = {"TAUT_MARK": mark, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
        environ |= ({"FAULT": fault} if fault else {}) | ({FRESH: "1"} if fresh else {})
        with (folder / "log").open("a") as log:
            before = log.tell()
            process = self.commands.start(
                HERE / "train_with_fault.py",
                *words,
                cwd=folder,
                env=os.environ | environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Started(process, folder / "log", before, mark)

    def run(self, folder, *words, fault=None) -> "Started":
        started = self.start(folder, *words, fault=fault)
        started.wait()
        return started


class Started:
    """A run and what became of it."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, before: int, mark: str) -> None:
        self.process, self.pid, self.log, self.mark = process, process.pid, log, mark
        self.code: int | None = None
        self._before = before

    def wait(self) -> int:
        """Its exit code; everything it started has ended by then, or soon enough."""
        self.code = self.process.wait()
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
        """Processes that carry its mark or are of its session, itself and the dead apart."""
        others = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {self.pid}
        return [pid for pid in others if self._carries(pid) and not is_server(pid)]

    def _carries(self, pid: int) -> bool:
        try:
            state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
            if state == "Z":
                return False
            mark = f"TAUT_MARK={self.mark}".encode()
            return int(session) == self.pid or mark in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False


@pytest.fixture(scope="session")
def faulty_train(commands):
    return FaultyTrain(commands)


@pytest.fixture(autouse=True)
def _only_where_processes_can_be_seen():
    if not Path("/proc/self/environ").exists():
        pytest.skip("the processes of a run are looked for in /proc")
