"""Plan of a sweep: ``sweep.json``, written before its first member starts."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from taut.commands.sweep.job import Member
from taut.config.overrides import NOT_OF_A_MEMBER, key
from taut.config.run_folder import PLAN
from taut.errors import UserError
from taut.files import write_json

LONGEST_NAME = 80


@dataclass(frozen=True)
class Plan:
    """The members of a sweep, in order.

    Args:
        name: Name of its folder; the W&B group of its members.
        command: The words it was first started with.
        members: All that have ever been part of it.
    """

    name: str
    command: list[str]
    members: list[Member]

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """The plan in a sweep folder, if there is one.

        Raises:
            UserError: If it is damaged.
        """
        path = folder / PLAN
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            return cls(known["name"], known["command"], [Member(**member) for member in known["members"]])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged or of another version; restore it, or start a new sweep with hydra.sweep.dir=<new>."
            ) from error

    def write(self, folder: Path) -> "Plan":
        """Put it into the sweep folder, atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, asdict(self))
        return self

    def member(self, words: Sequence[str]) -> Member:
        """The member with these words.

        Raises:
            KeyError: If there is none.
        """
        return self._known[tuple(words)]

    @cached_property
    def _known(self) -> dict[tuple[str, ...], Member]:
        return {tuple(member.words): member for member in self.members}

    def __contains__(self, words: Sequence[str]) -> bool:
        return tuple(words) in self._known

    def joined(self, wanted: Sequence[tuple[list[str], str]]) -> "Plan":
        """The plan with these members, words and digests of their configs, added behind those it has."""
        new = [(words, digest) for words, digest in wanted if words not in self]
        varied = _varied([*(member.words for member in self.members), *(words for words, _ in new)])
        start = 1 + max((member.number for member in self.members), default=-1)
        members = [
            Member(number, _folder(number, words, varied), words, digest)
            for number, (words, digest) in enumerate(new, start)
        ]
        return Plan(self.name, self.command, [*self.members, *members])


def refuse_changes(plan: Plan, wanted: Sequence[tuple[list[str], str]], merge: bool) -> None:
    """Refuse to go on with a sweep of other members, or whose configs are no longer what they were.

    Raises:
        UserError: Naming the first difference and the ways out.
    """
    for words, digest in wanted:
        if words in plan and plan.member(words).config != digest:
            raise UserError(
                f"The configs of {plan.member(words).folder} changed since the sweep {plan.name} began; restore them, "
                "or start a new sweep with hydra.sweep.dir=<new folder>."
            )
    added = [words for words, _ in wanted if words not in plan]
    kept = {tuple(words) for words, _ in wanted}
    left_out = [member.words for member in plan.members if tuple(member.words) not in kept]
    if (added or left_out) and not merge:
        first = f"has no member {' '.join(added[0])}" if added else f"has {' '.join(left_out[0])} besides"
        raise UserError(
            f"The sweep {plan.name} holds other members than these: it {first}; add resume=merge to put both together, "
            "or start a new one with hydra.sweep.dir=<new folder>."
        )


def digest(cfg: DictConfig) -> str:
    """SHA-256 of what a member is composed of; values from the environment count by the names of their variables."""
    container: Any = OmegaConf.to_container(cfg, resolve=False)
    parts = {name: part for name, part in container.items() if name not in NOT_OF_A_MEMBER}
    # sorted, so that the order of keys in a file is no change
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _varied(members: Sequence[Sequence[str]]) -> set[str]:
    """The keys in which members differ."""
    values: dict[str, set[str]] = {}
    for words in members:
        for word in words:
            values.setdefault(key(word), set()).add(word)
    return {name for name, given in values.items() if len(given) > 1 or len(members) == 1}


def _folder(number: int, words: Sequence[str], varied: set[str]) -> str:
    """``007_iwae-k50-seed1``: a number, and the values that tell it from the others."""
    parts = [_short(word) for word in words if key(word) in varied and not word.startswith("+sweep=")]
    return "_".join([f"{number:03d}", *(["-".join(parts)] if parts else [])])[:LONGEST_NAME]


def _short(word: str) -> str:
    name, _, value = word.partition("=")
    value = re.sub(r"[^\w.+]+", "", value)
    number = re.fullmatch(r"[-+]?[\d.]+(?:e[-+]?\d+)?", value) or value in ("true", "false", "null")
    return f"{name.rpartition('.')[2].lstrip('+~')}{value}" if number else value
