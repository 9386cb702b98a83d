"""The look of every table on the terminal."""

import re
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

NARROW = (0, 1, 0, 0)
"""Padding of tables with many columns: no space before a cell, one behind it."""

LONGEST = 26
"""Letters of a name that stay on one line."""


def broken(name: str, longest: int = LONGEST) -> str:
    """A name in lines that end at a space, or behind one of ``-_,/``, where it has such places."""
    lines = [""]
    for part in re.findall(r"[^-_,/\s]*(?:[-_,/]|\s|$)", name):
        if lines[-1] and part and len(lines[-1]) + len(part.rstrip()) > longest:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def new_table(title: str | Text = "", **settings: Any) -> Table:
    """An empty table without frame, its title above it on the left.

    Args:
        title: A plain string is set in italics; empty for none.
        settings: Further arguments of rich's ``Table``.
    """
    if isinstance(title, str):
        title = Text(title, style="italic")
    return Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, **settings)
