"""All members of a sweep in one table: on the terminal and as ``members.csv``."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.table import Table
from rich.text import Text

from taut.report.evaluation import number
from taut.report.scores import void_of

NAME = "members.csv"
STYLES = {"finished": "green", "failed": "bold red"}
SCORES = ("elbo", "log_px", "gap")


class MemberLike(Protocol):
    """What a table needs to know of a member."""

    @property
    def folder(self) -> str: ...
    @property
    def words(self) -> Sequence[str]: ...


class StatusLike(Protocol):
    """What a table needs to know of a status."""

    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def score(self) -> float | None: ...
    @property
    def log(self) -> str: ...


def members_table(folder: Path, members: Sequence[MemberLike], states: Mapping[str, StatusLike]) -> Table:
    """The members with their state, best validation bound and test scores in nats; failures with reason and log."""
    title = Text(f"{folder.name}: {len(members)} members, nats per datum", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    table.add_column("member", overflow="fold")
    table.add_column("state")
    for name in ("validation:\nbound", "test:\nlog p(x)", "test:\ngap", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for member in members:
        status = states[member.folder]
        scores = _scores(folder / member.folder)
        table.add_row(
            member.folder,
            Text(status.state, style=STYLES.get(status.state, "")),
            "" if status.score is None else number(status.score, 3),
            _signed(scores, "log_px"),
            _signed(scores, "gap"),
            "" if status.seconds is None else f"{status.seconds:.0f}",
        )
    failed = [(member.folder, states[member.folder]) for member in members if states[member.folder].state == "failed"]
    if failed:
        table.caption = Text("\n").join(_failure(folder, name, status) for name, status in failed)
        table.caption_style = ""
    return table


def write_members(folder: Path, members: Sequence[MemberLike], states: Mapping[str, StatusLike]) -> None:
    """The same as ``members.csv``, whole or not at all."""
    partial = folder / f".{NAME}.{os.getpid()}.part"
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["member", "words", "state", "val_bound", *SCORES, "exit_code", "reason", "log", "seconds"]
        writer.writerow(columns)
        for member in members:
            status, scores = states[member.folder], _scores(folder / member.folder)
            found = [None if _void(scores, name) else scores.get(name, {}).get("value") for name in SCORES]
            known = [status.state, status.score, *found, status.exit_code, status.reason]
            log = f"{member.folder}/{status.log}" if (folder / member.folder / status.log).exists() else None
            writer.writerow([member.folder, " ".join(member.words), *known, log, status.seconds])
    os.replace(partial, folder / NAME)


def _scores(folder: Path) -> Mapping[str, Any]:
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _void(scores: Mapping[str, Any], name: str) -> bool:
    """Whether a score, or one that it rests on, broke an inequality."""
    rests_on = ("log_px", "elbo", "gap") if name == "gap" else (name,)
    return any(void_of(scores.get(other)) for other in rests_on)


def _signed(scores: Mapping[str, Any], name: str) -> str:
    if _void(scores, name):
        return "void"
    score = scores.get(name)
    return ("" if score["kind"] == "exact" else ">= ") + number(score["value"], 3) if score else ""


def _failure(folder: Path, name: str, status: StatusLike) -> Text:
    log = folder / name / status.log
    text = Text(f"{name}: ", style="bold red").append(str(status.reason), style="not bold default")
    return text.append(f"  {log}", style="dim") if log.exists() else text
