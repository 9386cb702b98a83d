"""The pictures that runs have drawn, as data URIs: some of each kind, none of them huge."""

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taut.report.runs import Run

MOST_OF_A_KIND = 24
MOST_BYTES = 12_000_000
"""Bytes of all pictures of a page, before they are written as text."""
LARGE, WIDEST, MOST_PIXELS = 200_000, 1_400, 40_000_000
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
    names = sorted({kind for run in runs for kind in run.pictures}, key=_rank)
    room, kinds = MOST_BYTES, []
    for name in names:
        having = [place for place in order if name in runs[place].pictures]
        shown = []
        for place in having[:MOST_OF_A_KIND]:
            image = _image(runs[place].pictures[name]) if room > 0 else None
            if image is not None:
                room -= len(image[1])
                shown.append(Picture(place, f"data:{image[0]};base64,{base64.b64encode(image[1]).decode('ascii')}"))
        if shown:
            kinds.append(Kind(name.replace("_", " "), shown, len(having)))
    return kinds


def _rank(name: str) -> tuple[int, str]:
    stem = name.rpartition(": ")[2]
    return next((place for place, start in enumerate(FIRST) if stem.startswith(start)), len(FIRST)), name


def _image(path: Path) -> tuple[str, bytes] | None:
    """Type and bytes of a picture, made smaller where it is huge; ``None`` for what is no picture."""
    from PIL import Image

    try:
        if path.stat().st_size > 20 * LARGE:
            return None
        content = path.read_bytes()
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            warnings.simplefilter("error")
            if image.width * image.height > MOST_PIXELS:
                return None
            image.load()
            return ("image/png", content) if _is_small(image.width, content) else ("image/webp", _smaller(image))
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return None


def _is_small(width: int, content: bytes) -> bool:
    return width <= WIDEST and len(content) <= LARGE


def _smaller(image: Any) -> bytes:
    made = image.convert("RGB")
    made.thumbnail((WIDEST, 10 * WIDEST))
    out = io.BytesIO()
    made.save(out, "WEBP", quality=85)
    return out.getvalue()
