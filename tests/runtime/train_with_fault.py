"""train.py with a fault: ``FAULT="<rank> <place> <nth> <what>"`` strikes one process at the nth call of a place.

Without ``FAULT`` it is train.py.
"""

import os
import signal
import sys
from functools import wraps
from importlib import import_module
from pathlib import Path

from taut.errors import UserError

CONF = Path(__file__).resolve().parents[2] / "conf"
PLACES = {
    "data": ("taut.commands.train", "build_data"),
    "model": ("taut.commands.train", "build_model"),
    "start": ("taut.training.callbacks.checkpoints.RandomState", "on_fit_start"),
    "batch": ("taut.training.module.LatentVariableModel", "_surrogate"),
    "validation": ("taut.training.module.LatentVariableModel", "validation_step"),
    "save": ("taut.training.checkpoint.AtomicCheckpointIO", "save_checkpoint"),
    "between": ("taut.training.callbacks.history.History", "on_fit_end"),
    "test": ("taut.training.module.LatentVariableModel", "test_step"),
    "result": ("taut.commands.train", "describe"),
    "publish": ("taut.commands.train", "publish"),
}


def strike(fault: str) -> None:
    """Set the trap, if it is for this process."""
    rank, place, nth, what = fault.split()
    if rank != os.environ.get("LOCAL_RANK", "0"):
        return
    path, name = PLACES[place]
    module, _, owner = path.rpartition(".")
    home = getattr(import_module(module), owner) if owner[0].isupper() else import_module(path)
    call, calls = getattr(home, name), []

    @wraps(call)
    def struck(*args, **kwargs):
        calls.append(None)
        if len(calls) == int(nth):
            happen(what, args)
        return call(*args, **kwargs)

    setattr(home, name, struck)


def happen(what: str, args: tuple) -> None:
    if what == "raise":
        raise RuntimeError("a seeded fault")
    if what == "refuse":
        raise UserError("This machine lacks a file; copy it there.")
    if what == "leave":
        os._exit(3)
    if what == "nan":
        next(args[0].parameters()).data.fill_(float("nan"))
        return
    os.kill(os.getpid(), getattr(signal, what))


if __name__ == "__main__":
    from taut.cli import main

    if "FAULT" in os.environ:
        strike(os.environ["FAULT"])
    sys.exit(main("train", CONF, "taut.commands.train:train"))
