"""A ``train.py`` whose jobs do what their seed says: train, or go wrong in a way of its own."""

import ctypes
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from taut.cli import main
from taut.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"


def die(cfg, number):
    os.kill(os.getpid(), number)


def hang(cfg):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def fail(cfg):
    raise ValueError(f"seed {cfg.seed} is unlucky")


def refuse(cfg):
    raise UserError("prior=vamp does not go with q=exact; choose another.")


def interrupted_once(cfg):
    marker = Path(HydraConfig.get().runtime.output_dir) / "metrics.csv"
    if not marker.exists():
        marker.touch()
        time.sleep(3600)
    pretend(cfg)


def counted(cfg):
    """Steps of a tenth of a second, as many as the environment says; stopped, it leaves their number, and goes on."""
    checkpoint = Path(HydraConfig.get().runtime.output_dir) / "steps.txt"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    try:
        while step < int(os.environ["TAUT_STEPS"]):
            time.sleep(0.1)
            step += 1
    finally:
        checkpoint.write_text(str(step))
    pretend(cfg)


def exhaust(cfg):
    return bytearray(2**60)


def diverge(cfg):
    cfg.optimizer.lr = 1e30
    learn(cfg)


def learn(cfg):
    from taut.commands.train import train

    train(cfg)


def pretend(cfg):
    """A training that takes a moment and leaves a result that no other run leaves."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    time.sleep(0.2)
    result = {
        "status": "finished",
        "validation": {"bound": -float(cfg.seed)},
        "scores": {},
        "token": secrets.token_hex(8),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": cfg.threads,
    }
    partial = folder / ".result.part"
    partial.write_text(json.dumps(result))
    partial.replace(folder / "result.json")


FAULTS = {
    100: fail,
    101: fail,
    102: fail,
    103: lambda cfg: sys.exit(3),
    104: lambda cfg: os._exit(0),
    105: lambda cfg: die(cfg, signal.SIGKILL),
    106: lambda cfg: die(cfg, signal.SIGKILL),
    107: lambda cfg: ctypes.string_at(0),
    108: exhaust,
    109: diverge,
    110: hang,
    113: refuse,
    114: interrupted_once,
    115: counted,
    116: counted,
    117: counted,
    111: lambda cfg: time.sleep(3600),
    112: lambda cfg: time.sleep(3600),
}


def train(cfg):
    good = pretend if os.environ.get("TAUT_PRETEND") else learn
    FAULTS.get(cfg.seed, good)(cfg)


if __name__ == "__main__":
    sys.exit(main("train", CONF, train))
