"""Secrets, which must not reach a file: known by their names, their forms, or by being read from the environment."""

import os
import re

from taut.errors import redact_messages_with

NAMED = re.compile(r"api_?key|token|secret|password|passwd|credential", re.IGNORECASE)
"""Names of keys and of environment variables that hold secrets."""
WANDB_KEY = re.compile(r"[0-9a-f]{40}|wandb_v\d\w{20,}")
IN_URL = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
"""The user and password in a URL."""
SHORTEST = 6
"""Characters below which a value is no secret: a number, a flag, a word that stands in every sentence."""

_read: dict[str, str] = {}


def redacted(text: str) -> str:
    """Replace every known secret in a text by its name.

    Values that the config reads from the environment, those of environment variables named like secrets, and passwords
    in URLs.
    """
    # the longest first: a secret that is part of another would leave the rest of that one readable
    for value, name in sorted(_values().items(), key=lambda pair: -len(pair[0])):
        text = text.replace(value, f"${{oc.env:{name}}}")
    return IN_URL.sub("hidden", text)


def _values() -> dict[str, str]:
    named = {value: name for name, value in os.environ.items() if NAMED.search(name)}
    return {value: name for value, name in {**named, **_read}.items() if len(value) >= SHORTEST}


def remember(value: str, name: str) -> None:
    """A config has read this value from an environment variable of this name."""
    _read[value] = name


redact_messages_with(redacted)

HIDDEN = "hidden"

_GIVEN = re.compile(
    rf"([\w.+~-]*(?:{NAMED.pattern})[\w-]*['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}}\]]+)", re.IGNORECASE
)


def redacted_by_name(text: str) -> str:
    """Hide the user part of addresses, and values given to names of secrets, in a text that others wrote."""
    return _GIVEN.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text))
