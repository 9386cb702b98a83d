"""The name that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about a name that does not exist: the one meant, or all there are."""
    choices = sorted(known)
    near = get_close_matches(name, choices, 1, cutoff=0.5)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"choose among {', '.join(prefix + choice for choice in choices)}." if choices else "there is none."
