"""What the files of conf/ say of themselves in their comments, for ``--help`` and the schema.

The first comment of a file says in a few words what it chooses; the comment behind a key what the key is.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap

PACKAGE = "# @package"
"""Hydra's own comment, which says where the content of a file goes."""
# a key, its value if any, which may hold a # between quotation marks, and a comment
KEY = re.compile(
    r"""^(?P<indent>\s*)(?P<key>[A-Za-z_]\w*):(?:\s+(?:"[^"]*"|'[^']*'|[^#\s]|(?<!\s)\#|\s(?!\#))*)?"""
    r"""(?:\s+\#\s*(?P<comment>.+?))?\s*$""",
    re.VERBOSE,
)
WIDEST = 120
NARROWEST = 60


def of_choice(text: str) -> str:
    """The first comment of a file, without the sign and the last full stop; empty if it has none before its content."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return ""
        if not line.startswith(PACKAGE):
            return line.removeprefix("#").strip().rstrip(".")
    return ""


def of_keys(text: str) -> dict[str, str]:
    r"""The comments behind the keys of a file, by the dotted key.

    >>> of_keys("k: 1  # importance samples\nsweep:\n  name: null  # its folder")
    {'k': 'importance samples', 'sweep.name': 'its folder'}
    """
    return {key: comment for key, comment in _keys(text) if comment}


def _keys(text: str) -> Iterator[tuple[str, str]]:
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = KEY.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        above.append((indent, found["key"]))
        yield ".".join(key for _, key in above), (found["comment"] or "").rstrip(".")


def read(folders: list[Path], group: str, name: str) -> str:
    """The text of a choice, from the first folder that has it; empty if none has."""
    for folder in folders:
        path = folder / group / f"{name}.yaml"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""


def laid_out(groups: Mapping[str, Mapping[str, str]], width: int | None = None) -> str:
    """Groups, their choices and what each is, in columns.

    Args:
        groups: What is said of every choice, by group and name.
        width: Columns of the terminal; asked of it by default.
    """
    width = min(max(width or shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    first = 2 + max(map(len, groups), default=0)
    return "\n".join(line for group, choices in groups.items() for line in _lines(group, choices, first, width))


def _lines(group: str, choices: Mapping[str, str], first: int, width: int) -> Iterator[str]:
    second = 2 + max(map(len, choices), default=0)
    for index, (name, words) in enumerate(choices.items()):
        start = f"{group if index == 0 else '':<{first}}{name:<{second}}"
        wrapped = wrap(words, width - first - second) or [""]
        yield (start + wrapped[0]).rstrip()
        yield from (" " * (first + second) + line for line in wrapped[1:])
