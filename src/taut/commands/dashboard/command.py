"""The command line of the dashboard: words to a saved page, or to a file, or to one sentence."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taut.config.program import ended, extra, typed
from taut.errors import UserError, nearest
from taut.files import write_atomically

if TYPE_CHECKING:
    from taut.commands.dashboard.stored import Pages

HELP = """\
Save a W&B workspace that shows how tight the bounds of all runs are, and with sweep= a report page on one sweep.

  {typed} entity=me project=taut                                a workspace over all runs of the project
  {typed} entity=me project=taut sweep=outputs/sweeps/k_grid    of one sweep, and a report page on it
  {typed} --dry-run                                             print its sections and panels; no connection
  {typed} preview=dashboard.png                                 draw its panels from the records in outputs/wandb

Keys
  entity    W&B user or team; needed to save
  project   W&B project, taut if not given
  sweep     the folder of a sweep, or the W&B group of its runs
  out       a file for all that would be saved (JSON); nothing is sent
  pages     such a file, which is saved in place of the pages made here
  preview   a .png file for a picture of the panels; nothing is sent
  records   the offline records that are drawn, outputs/wandb if not given

It needs the extra `dashboard` ({extra}); saving needs a W&B API key (`wandb login`), too.
Runs reach W&B with logger.mode=online, or later with `wandb sync outputs/wandb/offline-run-*`.
"""
KEYS = ("entity", "project", "sweep", "out", "pages", "preview", "records")
FILES = ("out", "pages", "preview", "records")
FLAGS = ("--dry-run", "--help")
NAME = re.compile(r"[\w. -]{1,128}")
PATIENCE = 40.0
"""Seconds that saving the pages may take on a server that answers."""
DOTS = 80
"""Dots per inch of the picture."""


@dataclass(frozen=True)
class Request:
    """Words of the command line.

    Args:
        entity: W&B user or team.
        project: W&B project.
        sweep: W&B group of the runs of a sweep.
        out: File for the pages, in place of a server.
        pages: File of pages that are saved in place of those made here.
        preview: File for a picture of the panels, in place of a server.
        records: Folder of the records that are drawn.
        dry: Whether to print what is on the pages instead.
    """

    entity: str = ""
    project: str = "taut"
    sweep: str | None = None
    out: Path | None = None
    pages: Path | None = None
    preview: Path | None = None
    records: Path = Path("outputs/wandb")
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
    files = {key: Path(found[key]).expanduser() for key in FILES if key in found}
    _refuse_what_does_not_go_together(found)
    entity, project = found.get("entity", ""), found.get("project", "taut")
    return Request(entity, project, sweep, dry="--dry-run" in found, **files)


def _refuse_what_does_not_go_together(found: Mapping[str, str]) -> None:
    """Refuse words that contradict one another.

    Raises:
        UserError: Naming them.
    """
    ways = [word for word in ("out", "preview", "--dry-run") if word in found]
    if len(ways) > 1:
        raise UserError(f"{ways[0]} and {ways[1]} are two ways to look at the pages; give one of them.")
    if not ways and "entity" not in found:
        raise UserError("Saving needs your W&B user or team: add entity=<name>, or look at the pages with --dry-run.")
    if "records" in found and "preview" not in found:
        raise UserError("records= says what preview=<file>.png draws; add that, or leave it out.")
    if "pages" in found and (beside := [key for key in ("sweep", "preview") if key in found]):
        raise UserError(f"pages= holds finished pages, which {beside[0]}= does not change; leave one of the two out.")
    if not found.get("preview", "x.png").lower().endswith(".png"):
        raise UserError(f"preview={found['preview']} is no name of a picture; give it the ending .png.")


def _run(request: Request) -> None:
    # before W&B, which reads these, is imported
    os.environ["WANDB_SILENT"] = "true"
    offline = request.dry or request.out is not None or request.preview is not None
    if offline:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    _refuse_missing_extra()
    if request.preview is not None:
        _draw(request, request.preview)
        return
    if not offline:
        _save(request)
        return
    pages = _pages(request)
    if request.out is not None:
        path, text = request.out, json.dumps(pages.as_json(), indent=2) + "\n"
        _write("out", path, lambda: write_atomically(path, text))
        return
    # the reader may be head or a pager that was closed
    with suppress(BrokenPipeError):
        print(pages.outline())


def _draw(request: Request, path: Path) -> None:
    """Draw the panels from the records of the runs, and say which of them no run has logged anything for."""
    from taut.commands.dashboard.preview import preview, undrawn
    from taut.commands.dashboard.records import read
    from taut.report.figures.style import save

    records = read(request.records, request.sweep)
    _write("preview", path, lambda: save(preview(records), path, DOTS))
    print(path)
    if titles := undrawn(records):
        print(f"No run has logged what is drawn in: {'; '.join(titles)}.")
        print(
            f"{typed('evaluate')} run=<folder> experiment=gap and {typed('complete')} run=<folder> add to its record."
        )


def _refuse_missing_extra() -> None:
    try:
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise UserError(f"The dashboard needs wandb-workspaces; install it with {extra('dashboard')}.") from error


def _pages(request: Request, online: bool = False) -> "Pages":
    from taut.commands.dashboard.stored import Pages

    if request.pages is not None:
        return Pages.read(request.pages, request.entity, request.project)
    return Pages.made(request.entity, request.project, request.sweep, online)


def _write(key: str, path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise UserError(
            f"{key}={path} cannot be written ({error.strerror}); name a file in a folder that exists."
        ) from error


def _save(request: Request) -> None:
    from taut.runtime.connection import has_key, in_time, reachable, server

    # a file that cannot be read is told before anything is asked of W&B
    stored = None if request.pages is None else _pages(request)
    if not has_key():
        raise UserError(
            "Saving needs a W&B API key and none was found; run `wandb login` once, or see the pages with --dry-run."
        )
    if not reachable(server()):
        raise UserError("W&B's server does not answer; check the network, or look at the pages with --dry-run.")
    try:
        in_time(lambda: _send(request.entity, stored or _pages(request, online=True)), PATIENCE)
    except Exception as error:
        _leave_wandb()
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"W&B did not take the page ({reason}); check the API key, entity= and project=.") from error


def _send(entity: str, pages: "Pages") -> None:
    # asks W&B for the project of the report: where there is none, no workspace is left behind alone
    pages.as_json()
    for name, specification in pages.charts.items():
        _add_chart(entity, name, specification)
    print(f"workspace: {pages.workspace.save().url}", flush=True)
    if pages.report is not None:
        pages.report.save()
        print(f"report: {pages.report.url}", flush=True)


def _add_chart(entity: str, name: str, specification: Mapping[str, Any]) -> None:
    import wandb

    try:
        wandb.Api().create_custom_chart(
            entity=entity,
            name=name,
            display_name=name,
            spec_type="vega2",
            access="private",
            spec=dict(specification),
        )
    except Exception as error:
        # the name tells the specification, so one that is there already is the same
        if "exist" not in str(error).lower():
            raise


def _leave_wandb() -> None:
    """W&B waits for its service when Python ends; one that does not answer is not waited for."""
    import wandb

    from taut.runtime.connection import in_time

    with suppress(Exception, SystemExit):
        in_time(wandb.teardown, 1.0)
