"""Lists in a sentence: some names, the others counted; one sentence for all of whom the same is said."""

from collections.abc import Iterable, Sequence

NAMED = 3
"""Names in a sentence; the others are counted."""


def listed(names: Sequence[str]) -> str:
    """Some names, the others counted."""
    shown = list(names[:NAMED])
    more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    *before, last = [*shown, *more]
    return f"{', '.join(before)} and {last}" if before else last


def joined(sentences: Iterable[str]) -> list[str]:
    """Sentences ``<who>: <what>``, those that say the same of several as one."""
    said: dict[str, list[str]] = {}
    for sentence in sentences:
        who, colon, what = sentence.partition(": ")
        said.setdefault(what if colon else sentence, []).extend([who] if colon else [])
    return [f"{listed(names)}: {what}" if names else what for what, names in said.items()]
