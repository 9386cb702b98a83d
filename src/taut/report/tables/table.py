"""The look of every table on the terminal."""

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

NARROW = (0, 1, 0, 0)
"""Padding of tables with many columns: no space before a cell, one behind it."""


def new_table(title: str | Text = "", **settings: Any) -> Table:
    """An empty table without frame, its title above it on the left.

    Args:
        title: A plain string is set in italics; empty for none.
        settings: Further arguments of rich's ``Table``.
    """
    if isinstance(title, str):
        title = Text(title, style="italic")
    return Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, **settings)
