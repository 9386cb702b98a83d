"""Plan of a sweep: ``sweep.json``, written before its first job starts."""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from taut.commands.sweep.job import Job
from taut.config.foreign import check_jobs
from taut.config.overrides import NOT_OF_A_JOB, key
from taut.config.run_folder import PLAN, jobs_of
from taut.errors import UserError
from taut.files import read_regular, write_json

LONGEST_NAME = 80


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, in order.

    Args:
        name: Name of its folder; the W&B group of its jobs.
        command: The words it was first started with.
        jobs: All that have ever been part of it.
    """

    name: str
    command: list[str]
    jobs: list[Job]

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """The plan in a sweep folder, if there is one.

        Raises:
            UserError: If it is damaged, or something in the sweep leads elsewhere.
        """
        path = folder / PLAN
        check_jobs(folder, [])
        try:
            known = json.loads(read_regular(path))
            plan = cls(known["name"], known["command"], [Job(**job) for job in jobs_of(known)])
            # what others wrote may not lead out of the folder of the sweep
            check_jobs(folder, [job.folder for job in plan.jobs])
            return plan
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path} is damaged or of another version; restore it, or start a new sweep with hydra.sweep.dir=<new>."
            ) from error

    def write(self, folder: Path) -> "Plan":
        """Put it into the sweep folder, atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, asdict(self))
        return self

    def job(self, words: Sequence[str]) -> Job:
        """The job with these words.

        Raises:
            KeyError: If there is none.
        """
        return self._known[tuple(words)]

    @cached_property
    def _known(self) -> dict[tuple[str, ...], Job]:
        return {tuple(job.words): job for job in self.jobs}

    def __contains__(self, words: Sequence[str]) -> bool:
        return tuple(words) in self._known

    def joined(self, wanted: Sequence[tuple[list[str], str]], axes: Collection[str] = ()) -> "Plan":
        """The plan with these jobs, words and digests of their configs, added behind those it has.

        Args:
            wanted: The jobs.
            axes: The keys they are named after; those in which jobs differ if not given.
        """
        new = list({tuple(words): (words, digest) for words, digest in wanted if words not in self}.values())
        varied = set(axes) or _varied([*(job.words for job in self.jobs), *(words for words, _ in new)])
        start = 1 + max((job.number for job in self.jobs), default=-1)
        jobs = [
            Job(number, _folder(number, words, varied), words, digest)
            for number, (words, digest) in enumerate(new, start)
        ]
        return Plan(self.name, self.command, [*self.jobs, *jobs])


def refuse_changes(plan: Plan, wanted: Sequence[tuple[list[str], str]], merge: bool) -> None:
    """Refuse to go on with a sweep of other jobs, or whose configs are no longer what they were.

    Raises:
        UserError: Naming the first difference and the ways out.
    """
    for words, digest in wanted:
        if words in plan and plan.job(words).config != digest:
            raise UserError(
                f"The configs of {plan.job(words).folder} changed since the sweep {plan.name} began; restore them, "
                "or start a new sweep with hydra.sweep.dir=<new folder>."
            )
    added = [words for words, _ in wanted if words not in plan]
    kept = {tuple(words) for words, _ in wanted}
    left_out = [job.words for job in plan.jobs if tuple(job.words) not in kept]
    if (added or left_out) and not merge:
        first = f"has no job {' '.join(added[0])}" if added else f"has {' '.join(left_out[0])} besides"
        raise UserError(
            f"The sweep {plan.name} holds other jobs than these: it {first}; add resume=merge to put both together, "
            "or start a new one with hydra.sweep.dir=<new folder>."
        )


def digest(container: dict[str, Any]) -> str:
    """SHA-256 of an unresolved config: values from the environment count by the names of their variables."""
    parts = {name: part for name, part in container.items() if name not in NOT_OF_A_JOB}
    # sorted, so that the order of keys in a file is no change
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _varied(jobs: Sequence[Sequence[str]]) -> set[str]:
    """The keys in which jobs differ."""
    values: dict[str, set[str]] = {}
    for words in jobs:
        for word in words:
            values.setdefault(key(word), set()).add(word)
    return {name for name, given in values.items() if len(given) > 1 or len(jobs) == 1}


def _folder(number: int, words: Sequence[str], varied: set[str]) -> str:
    """``007_iwae-k50-seed1``: a number, and the values that tell it from the others."""
    parts = [_short(word) for word in words if key(word) in varied and not word.startswith("+sweep=")]
    return "_".join([f"{number:03d}", *(["-".join(parts)] if parts else [])])[:LONGEST_NAME]


def _short(word: str) -> str:
    name, _, value = word.partition("=")
    # what lies within a folder, experiment=families/q_flow, keeps the two words apart
    value = re.sub(r"[^\w.+]+", "", value.replace("/", "_"))
    number = re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?", value) or value in ("true", "false", "null")
    return f"{name.rpartition('.')[2].lstrip('+~')}{value}" if number else value
