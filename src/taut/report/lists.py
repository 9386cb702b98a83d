"""Lists in a sentence: some names, the others counted."""

from collections.abc import Sequence

NAMED = 3
"""Names in a sentence; the others are counted."""


def listed(names: Sequence[str]) -> str:
    """Some names, the others counted."""
    shown = list(names[:NAMED])
    more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    *before, last = [*shown, *more]
    return f"{', '.join(before)} and {last}" if before else last
