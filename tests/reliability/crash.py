"""A ``train.py`` that dies with its secrets on its lips."""

import os
import sys
from pathlib import Path

from taut.cli import main

CONF = Path(__file__).resolve().parents[2] / "conf"


def train(cfg):
    if cfg.seed == 1:
        raise RuntimeError(f"no answer from {cfg.data.path} with {os.environ['HF_TOKEN']}, {os.environ['HTTPS_PROXY']}")
    from taut.commands.train import train

    return train(cfg)


if __name__ == "__main__":
    sys.exit(main("train", CONF, train))
