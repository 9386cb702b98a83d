"""``report <folder> ...``: read runs, tell the answer on the terminal, write one page."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from taut.config.program import ended, typed
from taut.config.run_folder import HYDRA, PLAN, RESULT
from taut.errors import UserError
from taut.files import from_here

EXAMPLES = """examples:
  {typed} outputs/sweeps/k_grid             a sweep, also while it is running
  {typed} outputs/runs/<a> outputs/runs/<b> some runs
  {typed} outputs --out all.html            everything

The page is one file that needs no network. It is written into the folder of the sweep or the run, and to
outputs/report.html for several of them."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.capitalize()}; see {typed('report')} --help.")


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0, or 2 for a mistake in it."""
    return ended(lambda: _report(words))


def _report(words: Sequence[str] | None) -> None:
    report(_parser().parse_args(words))


def report(asked: argparse.Namespace) -> Path:
    """Read the runs, print what they say, write the page.

    Raises:
        UserError: If a folder holds no run, or the page cannot be made or written.
    """
    # here, so that --help and a mistake in the command answer at once
    from rich.console import Console
    from rich.text import Text

    from taut.report.page import page
    from taut.report.page.plots import pictures
    from taut.report.page.searches import searches
    from taut.report.rank.candidates import score_sets
    from taut.report.rank.incomparable import incomparable
    from taut.report.read.files import legible
    from taut.report.read.runs import find, names_of, read_run
    from taut.report.tables.sections import section
    from taut.report.tables.terminal import shown

    folders = [folder.expanduser() for folder in asked.folders]
    out = _out(asked.out, folders)
    found = find(folders)
    runs = [read_run(place.folder, place.words, job=bool(place.sweep)) for place in found.runs]
    places = {id(run): place for place, run in enumerate(runs)}
    names = names_of(runs)
    sets = score_sets(runs)
    sections = [section(scores, places, names) for scores in sets]
    apart = incomparable(sets, lambda run: names.labels[places[id(run)]])
    console = Console()
    for part in shown(runs, sections, apart, console.width):
        console.print(part)
    leaders = [places[id(answer.first.entries[0].run)] for each in sections for answer in each.found.answers]
    kinds = pictures(runs, list(dict.fromkeys([*leaders, *range(len(runs))])))
    title = names.labels[0] if len(runs) == 1 else _title(folders)
    shown_searches = list(searches(found.sweeps))
    page.write(out, page.render(title, runs, names, sections, apart, kinds, found.problems, shown_searches, out.parent))
    console.print(Text(legible(from_here(out)), style="dim"), soft_wrap=True)
    return out


def _out(asked: Path | None, folders: Sequence[Path]) -> Path:
    if asked is not None:
        out = asked.expanduser()
        if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
            raise UserError(f"--out {asked} is not a page; name a file that ends in .html.")
        return out
    single = len(folders) == 1 and any((folders[0] / name).exists() for name in (PLAN, HYDRA, RESULT))
    return (folders[0] if single else Path("outputs")) / "report.html"


def _title(folders: Sequence[Path]) -> str:
    more = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    return f"{folders[0].resolve().name}{more}"


def _parser() -> Parser:
    parser = Parser(
        prog=typed("report").removeprefix("python "),
        description="Which run has the best bound, and which the tightest: on the terminal, and on a page of its own.",
        epilog=EXAMPLES.format(typed=typed("report")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="a run, a sweep, or a folder of runs and sweeps"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes, a file that ends in .html")
    return parser
