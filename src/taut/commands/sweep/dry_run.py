"""Every job built once, in one process, before the first is started: what does not go together shows here."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console

from taut.commands.sweep.configs import Config
from taut.config.pieces import look_here
from taut.errors import RunError, UserError


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


def _all(shared: Sequence[dict[str, Any]], jobs: Sequence[tuple[int, dict[str, Any], int]]) -> list[str | None]:
    """Build each kind once in this process; one that is refused again for each of its seeds, which split the data.

    Args:
        shared: Configs, as :class:`taut.commands.sweep.configs.Config` has them.
        jobs: Of each job the place of its config among them, its own values, and the number of its kind.
    """
    look_here()
    build, built = _Builder(), set[int]()
    refusals: list[str | None] = []
    for place, own, kind in jobs:
        refusals.append(None if kind in built else build(shared[place] | own))
        if refusals[-1] is None:
            built.add(kind)
    return refusals


class _Builder:
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
    print("\n" + json.dumps(_all(*json.load(sys.stdin))))
