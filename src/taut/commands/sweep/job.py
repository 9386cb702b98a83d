"""One job of a sweep: its words, its folder, and how far it has come."""

import json
import os
import socket
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from taut.config.run_folder import LOCK, LOG, STATUS
from taut.files import read_regular, write_json

__all__ = ["ENDED", "LOCK", "LOG", "PRUNE", "STATUS", "Job", "Status"]

State = Literal["queued", "running", "finished", "failed", "pruned"]
ENDED = ("finished", "failed", "pruned")
"""States that a job does not leave by itself."""
PRUNE = "prune.txt"
"""Why a search has given a job up, in its folder: whoever watches over the job then stops it."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its words, its folder, its config.

    Args:
        number: Its place in the sweep.
        folder: Name of its run folder inside the sweep's.
        words: The command line that differs from that of a training without words.
        config: SHA-256 of the config those words composed when the job was planned.
    """

    number: int
    folder: str
    words: list[str]
    config: str


@dataclass(frozen=True)
class Status:
    """State of a job: ``status.json`` of its folder, written last.

    Args:
        state: ``queued``, ``running``, ``finished``, ``failed``, or ``pruned`` by a search that has given it up.
        reason: Why it failed, waits or was pruned, in one sentence.
        exit_code: Of its process; negative for a signal.
        seconds: Of all attempts, but for those that were killed.
        score: The best validation bound, in nats.
        attempts: How often it was started.
        host: Where it was started last.
        pid: The process that watched over it.
        log: File in its folder with all it said.
    """

    state: State = "queued"
    reason: str | None = None
    exit_code: int | None = None
    seconds: float | None = None
    score: float | None = None
    attempts: int = 0
    host: str = socket.gethostname()
    pid: int | None = None
    log: str = LOG

    @classmethod
    def read(cls, folder: Path) -> "Status":
        """The status in a job's folder; queued if there is none that can be read."""
        try:
            known = json.loads(read_regular(folder / STATUS))
            return cls(**{field.name: known[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return cls()

    def begun(self) -> "Status":
        """What it is when this process begins another attempt."""
        return Status("running", seconds=self.seconds, attempts=self.attempts + 1, pid=os.getpid())

    def after(self, seconds: float, **end: Any) -> "Status":
        """What it is after an attempt that took so many seconds and ended so."""
        return replace(self, seconds=(self.seconds or 0.0) + seconds, **end)

    def write(self, folder: Path) -> "Status":
        """Put it into a job's folder, atomically: the sweep reads it while jobs write."""
        write_json(folder / STATUS, asdict(self))
        return self
