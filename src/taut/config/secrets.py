"""What must not reach a file: secrets by their names and forms, and whatever a config reads from the environment."""

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
    """The same text with secrets named in place of given.

    Values that the config reads from the environment, those of environment variables named like secrets, and passwords
    in URLs.
    """
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
    """The same text without the user part of addresses and without values that are given to names of secrets."""
    return _GIVEN.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text))
