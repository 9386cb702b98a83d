"""Configs of a sweep's jobs: composed and checked once for all jobs that differ in nothing but their seed."""

import re
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taut.config.check import check
from taut.config.overrides import key
from taut.config.pieces import NeedsTrust
from taut.errors import UserError
from taut.runtime import devices

Compose = Callable[[list[str]], DictConfig]
Explain = Callable[[Exception, list[str]], str]
SEED = re.compile(r"seed=(\d{1,9})")
"""A seed that needs no check: nine digits are below 2^32."""
TO_SEED = "${seed}"


@dataclass(frozen=True, eq=False)
class Shared:
    """The config of jobs that differ in nothing but their seed, which nobody changes.

    Args:
        cfg: The config of one of them, in struct mode as Hydra's.
    """

    cfg: DictConfig

    @cached_property
    def container(self) -> dict[str, Any]:
        """The same in plain containers, unresolved."""
        return OmegaConf.to_container(self.cfg, resolve=False)  # type: ignore[return-value]

    @cached_property
    def depends_on_seed(self) -> bool:
        """Whether the seed may change more than seeds, by an interpolation that is more than ``${seed}`` alone."""
        return any(
            ("seed" in text and (name, text) != ("seed", TO_SEED)) or text.count("${") > 1
            for name, text in _interpolations(self.container)
        )


@dataclass(frozen=True, eq=False)
class Config:
    """The config of one job: what it shares with others, and top-level values of its own."""

    shared: Shared
    own: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """In plain containers, unresolved; what is below the top level is shared, and nobody changes it."""
        return {**self.shared.container, **self.own}

    @property
    def cfg(self) -> DictConfig:
        """As Hydra composes it."""
        # a copy of one of OmegaConf's takes as long as ten of the plain containers that most jobs need
        cfg = deepcopy(self.shared.cfg)
        cfg.update(self.own)
        return cfg

    @property
    def leaves_threads_open(self) -> bool:
        """Whether a job starts a thread for every core."""
        cfg = self.shared.cfg
        return "threads" not in self.own and OmegaConf.select(cfg, "threads", throw_on_resolution_failure=False) is None

    @property
    def kind(self) -> Hashable:
        """What tells it from the configs that are right if it is, since only their seeds are others."""
        if self.shared.depends_on_seed:
            return self
        return self.shared, *sorted((name, value) for name, value in self.own.items() if name != "seed")

    def also(self, **own: Any) -> "Config":
        """The same with further values of its own."""
        return Config(self.shared, self.own | own)


@dataclass
class Configs:
    """Config of each job, as Hydra composes it.

    Hydra reads and merges some thirty files for every job, a tenth of a second or two, and of a thousand jobs nearly
    all differ from another one in the seed alone. Such a config is the other's with its own seed: the seed
    chooses no file, and what refers to it does so by an interpolation, which stays one.

    Args:
        compose: The task config for the words of a job.
        explain: One sentence for what Hydra refuses.
    """

    compose: Compose
    explain: Explain
    _shared: dict[tuple[str, ...], Shared] = field(default_factory=dict, init=False)
    _refused: dict[tuple[str, ...], str] = field(default_factory=dict, init=False)
    _judged: dict[Hashable, str | None] = field(default_factory=dict, init=False)

    def composed(self, words: list[str]) -> Config:
        """The config of a job.

        Raises:
            UserError: If the words cannot be composed.
        """
        seed, others = _split(words)
        if seed is None:
            return Config(Shared(self._composed(words)), {})
        if others in self._refused:
            raise UserError(self._refused[others])
        if others not in self._shared:
            try:
                cfg = self._composed(words)
            except UserError as error:
                # of the seed itself nothing is wrong, unless there is a group of that name
                if "seed" not in str(error):
                    self._refused[others] = str(error)
                raise
            # else the word chose a file of a group of that name
            if cfg.get("seed") != seed:
                return Config(Shared(cfg), {})
            self._shared[others] = Shared(cfg)
        return Config(self._shared[others], {"seed": seed})

    def check(self, words: list[str], config: Config) -> None:
        """Refuse a config that cannot or may not be run.

        Raises:
            UserError: For the first thing that is wrong.
        """
        if config.kind not in self._judged:
            self._judged[config.kind] = self._wrong(words, config)
        if (wrong := self._judged[config.kind]) is not None:
            raise UserError(wrong)

    def _composed(self, words: list[str]) -> DictConfig:
        try:
            return self.compose(words)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(self.explain(error, words)) from error

    def _wrong(self, words: list[str], config: Config) -> str | None:
        cfg = config.cfg
        try:
            check(cfg)
            devices.check(cfg)
        # of all jobs alike, and not the end of those that have run
        except NeedsTrust:
            raise
        except UserError as error:
            return str(error)
        except (HydraException, OmegaConfBaseException) as error:
            return self.explain(error, words)
        return None


def _split(words: list[str]) -> tuple[int | None, tuple[str, ...]]:
    """The seed among the words of a job, if there is one plain one, and its other words."""
    seeds = [match[1] for word in words if (match := SEED.fullmatch(word))]
    others = tuple(word for word in words if not SEED.fullmatch(word))
    plain = len(seeds) == 1 and all(key(word) != "seed" for word in others)
    return (int(seeds[0]) if plain else None), others


def _interpolations(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for within, part in value.items():
            yield from _interpolations(part, str(within))
    elif isinstance(value, list):
        for part in value:
            yield from _interpolations(part, name)
    elif isinstance(value, str) and "${" in value:
        yield name, value
