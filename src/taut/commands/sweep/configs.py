"""Configs of a sweep's jobs: composed and checked once for all jobs that differ in nothing but their seed."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from omegaconf import DictConfig, OmegaConf

from taut.config.check import check
from taut.config.overrides import key
from taut.runtime import devices

Compose = Callable[[list[str]], DictConfig]
SEED = re.compile(r"seed=(\d{1,9})")
"""A seed that needs no check: nine digits are below 2^32."""
TO_SEED = "${seed}"


class Configs:
    """Config of each job, as Hydra composes it.

    Hydra reads and merges some thirty files for every job, a tenth of a second or two, and of a thousand jobs nearly
    all differ from another one in the seed alone. Such a config is a copy of the other's with its own seed: the seed
    chooses no file, and what refers to it does so by an interpolation, which a copy keeps.

    Args:
        compose: The task config for the words of a job.
    """

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._passed: set[tuple[str, ...]] = set()

    def composed(self, words: list[str]) -> DictConfig:
        """The config of a job, which the caller may change.

        Raises:
            HydraException: If the words cannot be composed, as Hydra raises it.
        """
        seed, others = _split(words)
        if seed is None:
            return self._compose(words)
        if others not in self._composed:
            cfg = self._compose(words)
            # else the word chose a file of a group of that name
            if cfg.get("seed") != seed:
                return cfg
            self._composed[others] = cfg
        cfg = deepcopy(self._composed[others])
        cfg.seed = seed
        return cfg

    def check(self, words: list[str], cfg: DictConfig) -> None:
        """Refuse a config that cannot or may not be run.

        Raises:
            UserError: For the first thing that is wrong.
        """
        seed, others = _split(words)
        if seed is not None and others in self._passed:
            return
        check(cfg)
        devices.check(cfg)
        if seed is not None and others in self._composed and not _depends_on_seed(self._composed[others]):
            self._passed.add(others)


def _split(words: list[str]) -> tuple[int | None, tuple[str, ...]]:
    """The seed among the words of a job, if there is one plain one, and its other words."""
    seeds = [match[1] for word in words if (match := SEED.fullmatch(word))]
    others = tuple(word for word in words if not SEED.fullmatch(word))
    plain = len(seeds) == 1 and all(key(word) != "seed" for word in others)
    return (int(seeds[0]) if plain else None), others


def _depends_on_seed(cfg: DictConfig) -> bool:
    """Whether the seed may change more than seeds, through an interpolation that is more than ``${seed}`` alone."""
    return any(
        ("seed" in text and (name, text) != ("seed", TO_SEED)) or text.count("${") > 1
        for name, text in _interpolations(OmegaConf.to_container(cfg, resolve=False))
    )


def _interpolations(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for within, part in value.items():
            yield from _interpolations(part, str(within))
    elif isinstance(value, list):
        for part in value:
            yield from _interpolations(part, name)
    elif isinstance(value, str) and "${" in value:
        yield name, value
