"""Every job built once, in one process, before the first is started: what does not go together shows here."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from taut.config.pieces import look_here
from taut.errors import RunError, UserError


def rehearse(configs: Sequence[DictConfig]) -> list[str | None]:
    """For each config, the sentence with which building its data or its model would be refused, or None.

    A process of its own does it: the one that drives a sweep imports nothing heavy.

    Raises:
        RunError: If that process breaks down.
    """
    if not configs:
        return []
    raw = json.dumps([OmegaConf.to_container(cfg, resolve=False) for cfg in configs])
    with Console(stderr=True).status(f"Building {len(configs)} jobs to see whether they can be ..."):
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


def _all(configs: Sequence[dict[str, Any]]) -> list[str | None]:
    """Build all in this process, loading data anew only where they differ from those of the job before."""
    from taut.config.instantiate import check_targets_resolved
    from taut.training.build import build_data, build_model, set_up_torch

    look_here()
    refusals: list[str | None] = []
    loaded, data = None, None
    for raw in configs:
        cfg = OmegaConf.create(raw)
        container: Any = OmegaConf.to_container(cfg, resolve=True)
        wanted = [container[key] for key in ("data", "mask", "trainer", "seed")]
        try:
            check_targets_resolved(cfg)
            set_up_torch(cfg)
            if data is None or wanted != loaded:
                loaded, data = wanted, build_data(cfg)
            cfg.x_shape = list(data.x_shape)
            build_model(cfg, data)
        except UserError as error:
            refusals.append(str(error))
        else:
            refusals.append(None)
    return refusals


if __name__ == "__main__":
    # on a line of its own, the last one: libraries print too, and not always whole lines
    print("\n" + json.dumps(_all(json.load(sys.stdin))))
