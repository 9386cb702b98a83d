"""Runs in this process, as the command line would start them."""

import json
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from taut.commands.train import train
from taut.config import compose as _resolvers  # noqa: F401

CONF = Path(__file__).resolve().parents[2] / "conf"
QUIET = ["callbacks=none", "logger=csv", "threads=1", "trainer.enable_progress_bar=false"]
TINY = ["trainer.max_epochs=2", "k_eval=4", "k_test=4", "network.hidden=[8]", *QUIET]


def composed(folder: Path, *overrides: str) -> DictConfig:
    """The config of a run in ``folder``, with Hydra's own part set as in a real run."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return cfg


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train in ``folder`` and return its ``result.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    previous = torch.get_default_dtype()
    try:
        train(composed(folder, *overrides))
    finally:
        torch.set_default_dtype(previous)
        torch.use_deterministic_algorithms(False)
    return json.loads((folder / "result.json").read_text())
