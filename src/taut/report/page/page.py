"""One self-contained page: the template filled in, with the charts' script, the numbers and the pictures inside."""

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from taut.config.program import typed
from taut.config.secrets import redacted_by_name
from taut.errors import UserError
from taut.files import write_atomically
from taut.report.page import plots
from taut.report.page.plots import Kind
from taut.report.page.searches import Shown
from taut.report.rank.answers import meanings
from taut.report.read import configs
from taut.report.read.files import Reader, legible
from taut.report.read.runs import STATES, Names, Run
from taut.report.tables.cells import MARKS
from taut.report.tables.sections import Section, state_cells

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f]")
BAD = ("failed", "interrupted", "unknown")


def render(
    title: str,
    runs: Sequence[Run],
    names: Names,
    sections: Sequence[Section],
    apart: Sequence[str],
    kinds: Sequence[Kind],
    notes: Sequence[str],
    searches: Sequence[Shown] = (),
    base: Path = Path(),
) -> str:
    """The page.

    Args:
        title: Its title.
        runs: All runs.
        names: What they are called outside of their sets.
        sections: The sets of comparable scores.
        apart: Reasons why sets are not compared with one another.
        kinds: Their pictures.
        notes: What could not be read of the sweeps.
        searches: The searches among the sweeps.
        base: The folder that the page is written into.
    """
    from jinja2 import Environment, StrictUndefined

    script, style = _asset("page.js") + _asset("plots.js"), _asset("page.css")
    # escaped: names, reasons and logs come from files that others wrote
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["minus"] = lambda text: re.sub(r"(?<![\w.])-(?=[\d.])", "\u2212", text)
    return environment.from_string(_asset("page.html")).render(
        title=title,
        typed=typed,
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
        runs=runs,
        names=names,
        states=_states(runs),
        sections=sections,
        apart=apart,
        meanings=meanings([section.found for section in sections]),
        links=_links(sections),
        charts=[_charts(section) for section in sections],
        marks=MARKS,
        waiting=list(_groups(runs)),
        kinds=kinds,
        fewer=", ".join(
            f"{kind.name} ({len(kind.pictures)} of {kind.found})" for kind in kinds if kind.found > len(kind.pictures)
        ),
        failures=list(_failures(runs, names, base)),
        notes=notes,
        searches=searches,
        settings=configs.differing([configs.settings(run.config) for run in runs]),
        versions=_versions(runs),
        style=style,
        script=script,
        digest=_hash(script),
        data=_embedded(_numbers(runs, names, sections)),
        pictures=_embedded(_uris(kinds)),
    )


def write(path: Path, page: str) -> None:
    """Write the page, atomically.

    Raises:
        UserError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a lone surrogate, from a file name that is no UTF-8, is not worth a page
        write_atomically(path, page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); name another file with --out.") from error


def _numbers(runs: Sequence[Run], names: Names, sections: Sequence[Section]) -> Mapping[str, Any]:
    return {
        "runs": [
            {"label": label, "name": run.name, "state": run.state, "history": plots.history(run)}
            for run, label in zip(runs, names.labels, strict=True)
        ],
        "sets": [plots.plotted(section) for section in sections],
        "waiting": [
            plots.waiting([runs[place] for place in group["places"]], group["places"]) for group in _groups(runs)
        ],
    }


def _uris(kinds: Sequence[Kind]) -> list[list[list[Any]]]:
    return [[[picture.run, picture.uri] for picture in kind.pictures] for kind in kinds]


def _links(sections: Sequence[Section]) -> list[str]:
    """A short name for each set: test or evaluation, and what tells it from others of its kind."""
    told = ("data", "binarisation", "likelihood", "mask", "cells", "split", "n", "k_test", "k")
    links = []
    for one in sections:
        others = [other.scores.about for other in sections if other.scores.source == one.scores.source]
        about = one.scores.about
        words = [name for name in told if len({other.get(name) for other in others}) > 1 and name in about]
        shown = [f"K = {about[name]}" if name in ("k", "k_test") else about[name] for name in words]
        links.append(" · ".join([one.scores.source.capitalize(), *shown]))
    return links


def _charts(section: Section) -> list[str]:
    """Charts that a set is worth: of a single run none that compares, and none of a gap that is known."""
    if len(section.rows) > 1:
        return ["gap_k", "parallel", "bracket", *(["gap_epoch"] if section.scores.source == "test" else [])]
    gap = section.scores.entries[0].scores.gap
    if gap is None or gap.exact:
        return []
    return ["bracket", *(["gap_epoch"] if section.scores.source == "test" else [])]


def _states(runs: Sequence[Run]) -> list[tuple[str, int]]:
    counted = Counter(run.state for run in runs)
    return [(state, counted[state]) for state in STATES[::-1] if counted[state]]


def _groups(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """The runs without scores, those with a bound by what it is of: bounds of other data stand apart."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, run in enumerate(runs):
        if not run.scored:
            groups["" if run.validation is None else run.problem].append(place)
    for heading, places in sorted(groups.items(), key=lambda group: not group[0]):
        cells = [state_cells(runs[place]) for place in places]
        drawn = any(plots.history(runs[place]) for place in places)
        yield {"heading": heading or "without a bound so far", "places": places, "cells": cells, "drawn": drawn}


def _near(path: Path, base: Path) -> Path:
    """A path as the reader of the page finds it: from the folder of the page, if it lies below."""
    path, base = path.absolute(), base.absolute()
    return path.relative_to(base) if path.is_relative_to(base) else Path(*path.parts[-3:])


def _failures(runs: Sequence[Run], names: Names, base: Path) -> Iterator[dict[str, Any]]:
    for place, run in enumerate(runs):
        if run.state in BAD or run.problems:
            log = run.log if run.state in BAD else ""
            # a log was written by any library: secrets and control characters in it stay out of the page
            tail = CONTROL.sub("", redacted_by_name(Reader(run.folder).tail(log).replace("\r", "\n"))) if log else ""
            path = legible(_near(run.folder / log, base))
            yield {"place": place, "label": names.labels[place], "run": run, "path": path, "tail": tail.strip()}


def _versions(runs: Sequence[Run]) -> dict[str, list[tuple[str, int]]]:
    """Versions of every library and of the data, with the number of runs made with each."""
    names = dict.fromkeys(name for run in runs for name in run.versions)
    return {name: Counter(run.versions[name] for run in runs if name in run.versions).most_common() for name in names}


def _hash(script: str) -> str:
    """Digest by which the page's content policy knows a script that may run in it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _embedded(value: Any) -> str:
    """JSON that no tag and no script can end."""
    # NaN is no JSON, and a browser would refuse all numbers for one of them
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (files("taut.report") / "page" / name).read_text(encoding="utf-8")
