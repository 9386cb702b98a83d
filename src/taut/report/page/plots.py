"""The numbers behind the plots of a page, as plain values for its script."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taut.files import read_regular
from taut.report.read.runs import Names, Run, names_of
from taut.report.read.scores import Apart, Bracket, Score, Scores
from taut.report.tables.sections import Section

MOST_POINTS = 60
"""Epochs of one run that are drawn."""
MOST_AXES = 7
"""Words beside K and the scores in the parallel coordinates."""
ALWAYS = ("prior", "q")


def plotted(section: Section) -> dict[str, Any]:
    """Numbers that are drawn of a set of comparable scores."""
    entries = section.scores.entries
    return {
        "source": section.scores.source,
        "rows": [
            {"run": place, "label": label, "series": series, "k": entry.run.k, **_scores(entry.scores)}
            for place, label, series, entry in zip(
                section.runs, section.names.labels, section.names.series, entries, strict=True
            )
        ],
        "axes": _axes(section.names, [entry.run for entry in entries]),
    }


def waiting(runs: Sequence[Run], places: Sequence[int]) -> dict[str, Any]:
    """Histories of runs that have no scores yet."""
    names = names_of(runs)
    rows = zip(places, names.labels, names.series, runs, strict=True)
    return {
        "rows": [{"run": place, "label": label, "series": series, "k": run.k} for place, label, series, run in rows]
    }


def history(run: Run) -> dict[str, list[float]] | None:
    """Gap and bound on the validation split by epoch, thinned; ``None`` for a run that never validated."""
    rows = [row for row in run.history if "epoch" in row and ("val/gap" in row or "val/bound" in row)]
    if not rows:
        return None
    kept = [rows[i] for i in thinned(len(rows))]
    return {
        "epoch": [row["epoch"] + 1 for row in kept],
        "gap": [_short(row.get("val/gap")) for row in kept],
        "bound": [_short(row.get("val/bound")) for row in kept],
    }


def thinned(n: int, most: int = MOST_POINTS) -> list[int]:
    """At most so many of ``n`` places, evenly spread, the first and the last among them."""
    if n <= most:
        return list(range(n))
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})


def _scores(scores: Scores) -> dict[str, Any]:
    importance = scores.others.get("importance")
    return {
        "elbo": _pair(scores.elbo),
        "bound": _pair(scores.bound),
        "l_k": _pair(importance),
        "log_px": _ends(scores.log_px),
        "gap": _ends(scores.gap),
        "apart": {split: _apart(gap) for split, gap in scores.apart.items()},
    }


def _pair(score: Score | None) -> list[float | None] | None:
    return None if score is None else [score.value, score.error]


def _ends(bracket: Bracket | None) -> dict[str, Any] | None:
    if bracket is None:
        return None
    return {"low": _pair(bracket.low), "high": _pair(bracket.high), "exact": bracket.exact}


def _apart(apart: Apart) -> dict[str, Any]:
    return {"n": apart.n, "amortisation": _pair(apart.amortisation), "approximation": _ends(apart.approximation)}


def _axes(names: Names, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The axes of the parallel coordinates before K and the scores: name, and the word of every run."""
    varied = {name: values for name, values in names.varied.items() if name not in ("k", "seed")}
    constant: Mapping[str, Sequence[str]] = {
        name: [run.about.get(name, "") for run in runs] for name in ALWAYS if name not in varied
    }
    axes = [*constant.items(), *varied.items()][:MOST_AXES]
    return [{"name": name.rpartition(".")[2], "values": list(values)} for name, values in axes if any(values)]


def _short(value: float | None) -> Any:
    # six digits are all that a plot shows; seventeen would double the page
    return None if value is None else float(f"{value:.6g}")


MOST_OF_A_KIND = 24
MOST_BYTES = 700_000
"""Bytes of all pictures of a page before they are written as text, which adds a third: the page of 15 runs stays below
1.5 MB, so that it can be sent by mail."""
SMALL, LARGEST, WIDEST, MOST_PIXELS = 8_000, 4_000_000, 1_000, 40_000_000
FIRST = ("images_test", "completion", "clusters", "latent", "bracket", "bound_versus_k_test", "gap_apart")
"""Kinds that come before the others: by the beginning of their names, without the folder."""


@dataclass(frozen=True)
class Picture:
    """One picture: whose it is, and what it shows as a data URI."""

    run: int
    uri: str


@dataclass(frozen=True)
class Kind:
    """Pictures of one kind.

    Args:
        name: What they show.
        pictures: Those that are on the page.
        found: How many there are in the folders.
    """

    name: str
    pictures: Sequence[Picture]
    found: int


def pictures(runs: Sequence[Run], order: Sequence[int]) -> list[Kind]:
    """The pictures of some runs by kind.

    Args:
        runs: All runs of the report.
        order: Places of the runs, the best first: they are shown where there is no room for all.
    """
    having = {name: [place for place in order if name in _final(runs[place])] for name in _kinds(runs)}
    room, kinds = MOST_BYTES, []
    for left, (name, places) in enumerate(having.items()):
        # kinds share what is left evenly: what one does not need falls to those after it
        share, shown = room // (len(having) - left), []
        for place in places[:MOST_OF_A_KIND]:
            image = _image(runs[place].pictures[name]) if share > 0 else None
            if image is None:
                continue
            share -= len(image[1])
            # the first of a kind always: it says what there is
            if share < 0 and shown:
                break
            room -= len(image[1])
            shown.append(Picture(place, f"data:{image[0]};base64,{base64.b64encode(image[1]).decode('ascii')}"))
        if shown:
            kinds.append(Kind(name.replace("_", " "), shown, len(places)))
    return kinds


def _kinds(runs: Sequence[Run]) -> list[str]:
    return sorted({kind for run in runs for kind in _final(run)}, key=_rank)


def _final(run: Run) -> list[str]:
    """Kinds of the pictures of a run, without those of the validation that the test has drawn, too."""
    names = run.pictures
    return [name for name in names if not (name.endswith("_val") and f"{name.removesuffix('val')}test" in names)]


def _rank(name: str) -> tuple[int, str]:
    stem = name.rpartition(": ")[2]
    return next((place for place, start in enumerate(FIRST) if stem.startswith(start)), len(FIRST)), name


def _image(path: Path) -> tuple[str, bytes] | None:
    """Type and bytes of a picture, made smaller where that is possible; ``None`` for what is no picture."""
    from PIL import Image

    try:
        content = read_regular(path, LARGEST)
        # one format: a damaged or hostile file meets no other decoder of PIL
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            warnings.simplefilter("error")
            # by the header, before any pixel is unpacked: a small file can hold a giant
            if image.width * image.height > MOST_PIXELS:
                return None
            image.load()
            smaller = content if len(content) <= SMALL else _smaller(image)
            return ("image/png", content) if len(content) <= len(smaller) else ("image/webp", smaller)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None


def _smaller(image: Any) -> bytes:
    made = image.convert("RGB")
    made.thumbnail((WIDEST, 10 * WIDEST))
    out = io.BytesIO()
    made.save(out, "WEBP", quality=80)
    return out.getvalue()
