"""Which names hold secrets, and how they are kept out of what is written."""

import re

SECRET = re.compile(r"(api_?key|token|secret|password|credential)", re.IGNORECASE)
HIDDEN = "hidden"

_USER = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_GIVEN = re.compile(
    rf"([\w.+~-]*{SECRET.pattern}[\w-]*['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}\]]+)", re.IGNORECASE
)


def redacted(text: str) -> str:
    """The same text without the user part of addresses and without values that are given to names of secrets."""
    return _GIVEN.sub(rf"\1{HIDDEN}", _USER.sub(HIDDEN, text))
