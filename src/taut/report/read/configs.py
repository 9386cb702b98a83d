"""Configs with flat keys: what they hold, what differs, and nothing that is secret."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taut.config.secrets import HIDDEN, NAMED, redacted_by_name
from taut.report.read.files import word

MOST = 2_000
"""Values of one config that are shown."""
NOT_OF_A_RUN = ("hydra", "sweep", "resume", "launcher", "logger", "threads", "experiment")
"""Keys that say how a run was started, not what it is."""
NOT_A_SETTING = ("sweep.", "launcher.", "logger.", "resume", "threads")
"""Beginnings of flat keys that change nothing in what a run finds."""


def settings(config: Mapping[str, str]) -> dict[str, str]:
    """The part of a flat config that what a run finds may depend on."""
    return {key: value for key, value in config.items() if not key.startswith(NOT_A_SETTING)}


def flat(config: Any) -> dict[str, str]:
    """Every value of a config by its dotted key; lists of plain values stay one value."""
    if not isinstance(config, Mapping):
        return {}
    return {key: value for (key, value), _ in zip(_flat("", config), range(MOST), strict=False)}


def keys_given(words: Any) -> dict[str, str]:
    """Values that a command line sets, by key: ``+trainer.max_epochs=3`` sets ``trainer.max_epochs``."""
    pairs = (word(one).partition("=") for one in words if isinstance(one, str)) if isinstance(words, list) else ()
    found = {key.lstrip("+~"): value for key, _, value in pairs}
    return {
        key: HIDDEN if NAMED.search(key) else redacted_by_name(value)
        for key, value in found.items()
        if key.split(".")[0] not in NOT_OF_A_RUN
    }


def differing(values: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The keys in which mappings differ, each with the value of every mapping; empty where one has none."""
    keys = dict.fromkeys(key for one in values for key in one)
    rows = {key: [one.get(key, "") for one in values] for key in keys}
    return {key: row for key, row in rows.items() if len(set(row)) > 1}


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if NAMED.search(key.rpartition(".")[2]) and value is not None:
        yield key, HIDDEN
    elif isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(f"{key}.{word(name)}".lstrip("."), part)
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        for index, part in enumerate(value):
            yield from _flat(f"{key}.{index}", part)
    else:
        yield key, redacted_by_name(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(one) for one in value)}]"[:200]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return word(value) if isinstance(value, str | int | float) else "{}" if value == {} else word(str(value))
