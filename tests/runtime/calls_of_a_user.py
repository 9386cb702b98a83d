"""A program that uses taut in Python, and prints what of its process is another one after each call."""

import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

# what these change when they are imported is theirs
import hydra  # noqa: F401
import lightning  # noqa: F401
import numpy as np
import requests  # noqa: F401
import sklearn.cluster
import torch

import taut

STORED = Path(__file__).resolve().parents[1] / "stored_runs"
X = (np.random.default_rng(0).random((30, 4)) < 0.5).astype(float)


def snapshot() -> dict[str, Any]:
    """Everything of a process that a library might touch."""
    loggers = [("", logging.getLogger()), *logging.root.manager.loggerDict.items()]
    return {
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "loggers": {
            name: (each.level, list(each.handlers), each.propagate, each.disabled)
            for name, each in loggers
            if isinstance(each, logging.Logger)
        },
        "folder": (os.getcwd(), os.listdir()),
        "words": (list(sys.path), list(sys.argv), sys.excepthook),
    }


def refused() -> None:
    """A call that ends in an error."""
    try:
        taut.VAE(device="cpu").fit(X * 0.5)
    except taut.UserError:
        return
    raise AssertionError("grey pixels were taken")


CALLS = {
    "load": lambda: taut.load(STORED / "ppca").model.sample(3),  # of a run in float64
    "evaluate": lambda: repr(taut.evaluate(STORED / "vae", evidence=["importance", "struski"], limit=2, k=12)),
    "fit": lambda: taut.VAE(1, (3,), max_epochs=1, device="cpu").fit(X),
    "score": lambda: taut.IWAE(1, (3,), k=2, max_epochs=1, device="cpu").fit(X).score(X),
    "mixture": lambda: taut.GaussianMixture(2, tol=1.0).fit(X + np.arange(4)).sample(2),
    "imputer": lambda: taut.Imputer(components=2).fit(X).transform(np.where(X[:2] > 0, np.nan, X[:2])),
    "checkpoint": lambda: lightning_module().load_from_checkpoint(STORED / "mog" / "checkpoints" / "best.ckpt"),
    "a refusal": refused,
}


def lightning_module() -> Any:
    """The base of all models."""
    from taut.training.module import LatentVariableModel

    return LatentVariableModel


def main() -> None:
    """Try every call under both dtypes."""
    sklearn.cluster.KMeans(1, n_init=1).fit(X)  # it asks once for the cores of the machine
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        for name, call in CALLS.items():
            before = snapshot()
            call()
            after = snapshot()
            known = before["loggers"]
            after["loggers"] = {each: value for each, value in after["loggers"].items() if each in known}
            for what in before:
                if before[what] != after[what]:
                    print(f"{name} changes {what}")
    print("done")


if __name__ == "__main__":
    main()
