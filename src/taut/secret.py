"""Secrets in files that others wrote: by the names they are given to, as their values are not known here."""

import re

from taut.secrecy import IN_URL
from taut.secrecy import NAMED as SECRET

__all__ = ["HIDDEN", "SECRET", "redacted"]

HIDDEN = "hidden"

_GIVEN = re.compile(
    rf"([\w.+~-]*(?:{SECRET.pattern})[\w-]*['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}\]]+)", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The same text without the user part of addresses and without values that are given to names of secrets."""
    return _GIVEN.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text))
