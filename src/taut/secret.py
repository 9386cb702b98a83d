"""Secrets in files that others wrote: by the names they are given to, as their values are not known here."""

import re

from taut.secrecy import IN_URL, NAMED

HIDDEN = "hidden"

_GIVEN = re.compile(
    rf"([\w.+~-]*(?:{NAMED.pattern})[\w-]*['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}\]]+)", re.IGNORECASE
)


def redacted_by_name(text: str) -> str:
    """The same text without the user part of addresses and without values that are given to names of secrets."""
    return _GIVEN.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text))
