"""Configs of a sweep's jobs: composed, checked and built once, before the first job is started.

Jobs that differ in nothing but their seed are composed and checked together; what does not go together shows when the
data and the model of each kind are built, in one process (:func:`rehearse`).
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from taut.config.check import check
from taut.config.overrides import key
from taut.config.pieces import NeedsTrust, look_here
from taut.errors import RunError, UserError
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
            if cfg.trainer.fast_dev_run:
                raise UserError(
                    "trainer.fast_dev_run keeps nothing of a job that a sweep could report; leave it out, or try one "
                    "job without -m."
                )
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


def rehearse(configs: Sequence[Config]) -> list[str | None]:
    """For each config, the sentence with which building its data or its model would be refused, or None.

    A process of its own does it: the one that drives a sweep imports nothing heavy.

    Raises:
        RunError: If that process breaks down.
    """
    if not configs:
        return []
    shared = list(dict.fromkeys(config.shared for config in configs))
    kinds = list(dict.fromkeys(config.kind for config in configs))
    places, numbers = ({one: i for i, one in enumerate(ones)} for ones in (shared, kinds))
    jobs = [(places[config.shared], config.own, numbers[config.kind]) for config in configs]
    raw = json.dumps([[each.container for each in shared], jobs])
    with Console(stderr=True).status(f"Building {len(kinds)} models to see whether they can be ..."):
        done = subprocess.run(  # noqa: S603 (this module, by the running interpreter)
            # -P: else Python would look for every module in the working directory first
            [sys.executable, "-P", "-m", __name__],
            input=raw,
            capture_output=True,
            text=True,
        )
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise RunError(f"Building the jobs failed; sweep.rehearse=false leaves it out.\n{done.stderr}") from error


def build_all(shared: Sequence[dict[str, Any]], jobs: Sequence[tuple[int, dict[str, Any], int]]) -> list[str | None]:
    """Build each kind once in this process; one that is refused again for each of its seeds, which split the data.

    Args:
        shared: Configs, as :class:`Config` has them.
        jobs: Of each job the place of its config among them, its own values, and the number of its kind.
    """
    look_here()
    build, built = Builder(), set[int]()
    refusals: list[str | None] = []
    for place, own, kind in jobs:
        refusals.append(None if kind in built else build(shared[place] | own))
        if refusals[-1] is None:
            built.add(kind)
    return refusals


class Builder:
    """Builds what configs describe, loading data anew only where they differ from those of the job before."""

    def __init__(self) -> None:
        self._loaded: list[Any] | None = None
        self._data: Any = None

    def __call__(self, raw: dict[str, Any]) -> str | None:
        """The sentence with which a config is refused."""
        from taut.config.instantiate import check_targets_resolved
        from taut.training.build import build_data, build_model, fill_in, set_up_torch

        cfg = OmegaConf.create(raw)
        container: Any = OmegaConf.to_container(cfg, resolve=True)
        wanted = [container[key] for key in ("data", "mask", "trainer", "seed")]
        try:
            check_targets_resolved(cfg)
            set_up_torch(cfg)
            if wanted != self._loaded:
                self._loaded, self._data = None, build_data(cfg)
                self._loaded = wanted
            fill_in(cfg, self._data)
            build_model(cfg, self._data)
        except UserError as error:
            return str(error)
        return None


if __name__ == "__main__":
    # on a line of its own, the last one: libraries print too, and not always whole lines
    print("\n" + json.dumps(build_all(*json.load(sys.stdin))))
