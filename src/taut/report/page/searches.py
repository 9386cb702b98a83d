"""Searches on the page: the words of the best trial, and the figures."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taut.report.read.files import legible
from taut.report.read.search import read_search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110


@dataclass(frozen=True)
class Shown:
    """A search, ready for the page.

    Args:
        name: Name of its folder.
        counted: How many trials ended how, in words.
        scores: What it maximises.
        best: The command of the best trial, or of those of the Pareto front.
        note: What is to be said of its scores or its end.
        pictures: Titles of its figures, and the figures as addresses of data.
    """

    name: str
    counted: str
    scores: str
    best: Sequence[str]
    note: str
    pictures: Sequence[tuple[str, str]]


def searches(folders: Sequence[Path]) -> Iterator[Shown]:
    """Those of some sweeps that are searches."""
    for folder in folders:
        search = read_search(folder)
        if search is None:
            continue
        # matplotlib, which a page without a search does without
        from taut.report.figures.search import figures

        states = [trial.state for trial in search.trials]
        counted = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        yield Shown(
            legible(folder.resolve().name),
            f"{len(states)} trials: {', '.join(counted)}",
            ", ".join(label.replace("\n", ", ") for label in search.labels),
            list(search.best.values()),
            search.note,
            [(name.replace("_", " "), _uri(figure)) for name, figure in figures(search)],
        )


def _uri(figure: "Figure") -> str:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode('ascii')}"
