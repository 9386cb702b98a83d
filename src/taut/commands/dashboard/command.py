"""The command line of the dashboard: words to a saved page, or to a file, or to one sentence."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from taut.config.program import ended, extra, typed
from taut.errors import UserError, nearest
from taut.files import write_atomically

HELP = """\
Save a W&B workspace that shows how tight the bounds of all runs are, and with sweep= a report page on one sweep.

  {typed} entity=me project=taut                                a workspace over all runs of the project
  {typed} entity=me project=taut sweep=outputs/sweeps/k_grid    of one sweep, and a report page on it
  {typed} --dry-run                                             print its sections and panels; no connection

Keys
  entity    W&B user or team; needed to save
  project   W&B project, taut if not given
  sweep     the folder of a sweep, or the W&B group of its runs
  out       a file for all that would be saved (JSON); nothing is sent

Saving needs the extra `dashboard` ({extra}) and a W&B API key (`wandb login`).
Runs reach W&B with logger.mode=online, or later with `wandb sync outputs/wandb/offline-run-*`.
"""
KEYS = ("entity", "project", "sweep", "out")
FLAGS = ("--dry-run", "--help")
NAME = re.compile(r"[\w. -]{1,128}")
PATIENCE = 20.0
"""Seconds that saving a page may take on a server that answers."""


@dataclass(frozen=True)
class Request:
    """Words of the command line.

    Args:
        entity: W&B user or team.
        project: W&B project.
        sweep: W&B group of the runs of a sweep.
        out: File for the pages, in place of a server.
        dry: Whether to print what is on the pages instead.
    """

    entity: str = ""
    project: str = "taut"
    sweep: str | None = None
    out: Path | None = None
    dry: bool = False


def main(words: Sequence[str]) -> int:
    """The exit code of one command: 0, or 2 and one sentence."""
    if {"--help", "-h"} & set(words):
        return ended(lambda: print(HELP.format(typed=typed("dashboard"), extra=extra("dashboard")), end=""))
    return ended(lambda: _run(parsed(words)))


def parsed(words: Sequence[str]) -> Request:
    """The request that the words make.

    Raises:
        UserError: For the first word that cannot be understood.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-") and word not in FLAGS:
            raise UserError(f"There is no flag {word}; {nearest(word, FLAGS)}")
        if not word.startswith("-") and (key not in KEYS or not equals):
            raise UserError(f"There is no key {key}; {nearest(key, KEYS)}")
        if equals and not value:
            raise UserError(f"{key}= has no value; give it one, or leave it out.")
        found[key] = value
    sweep = None if "sweep" not in found else Path(found["sweep"]).name
    for key, value in {**found, "sweep": sweep or ""}.items():
        if key in ("entity", "project", "sweep") and value and not NAME.fullmatch(value):
            raise UserError(f"{key}={value} cannot be a name at W&B; use letters, digits, spaces, dots, - and _ alone.")
    out = Path(found["out"]) if "out" in found else None
    dry = "--dry-run" in found
    if not (out or dry or "entity" in found):
        raise UserError("Saving needs your W&B user or team: add entity=<name>, or look at the pages with --dry-run.")
    return Request(found.get("entity", ""), found.get("project", "taut"), sweep, out, dry)


def _run(request: Request) -> None:
    # before W&B, which reads these, is imported
    os.environ["WANDB_SILENT"] = "true"
    offline = request.dry or request.out is not None
    if offline:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    _refuse_missing_extra()
    if not offline:
        _save(request)
        return
    if request.out is not None:
        _write(request.out, json.dumps(_pages(request), indent=2) + "\n")
        return
    from taut.commands.dashboard.pages import outline

    # the reader may be head or a pager that was closed
    with suppress(BrokenPipeError):
        print(outline(request.project, request.sweep))


def _refuse_missing_extra() -> None:
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise UserError(f"The dashboard needs wandb-workspaces; install it with {extra('dashboard')}.") from error


def _pages(request: Request) -> dict[str, object]:
    from taut.commands.dashboard.pages import as_json, report, workspace

    pages: dict[str, object] = {"workspace": as_json(workspace(request.entity, request.project, request.sweep))}
    if request.sweep is not None:
        pages["report"] = as_json(report(request.entity, request.project, request.sweep, online=False))
    return pages


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(
            f"out={path} cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error


def _save(request: Request) -> None:
    from taut.runtime.connection import has_key, in_time, reachable, server

    if not has_key():
        raise UserError(
            "Saving needs a W&B API key and none was found; run `wandb login` once, or see the pages with --dry-run."
        )
    if not reachable(server()):
        raise UserError("W&B's server does not answer; check the network, or look at the pages with --dry-run.")
    try:
        in_time(lambda: _sent(request), PATIENCE)
    except Exception as error:
        _leave_wandb()
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"W&B did not take the page ({reason}); check the API key, entity= and project=.") from error


def _sent(request: Request) -> None:
    from taut.commands.dashboard.pages import report, workspace

    saved = workspace(request.entity, request.project, request.sweep).save()
    print(f"workspace: {saved.url}", flush=True)
    if request.sweep is not None:
        page = report(request.entity, request.project, request.sweep, online=True)
        page.save()
        print(f"report: {page.url}", flush=True)


def _leave_wandb() -> None:
    """W&B waits for its service when Python ends; one that does not answer is not waited for."""
    import wandb

    from taut.runtime.connection import in_time

    with suppress(Exception, SystemExit):
        in_time(wandb.teardown, 1.0)
