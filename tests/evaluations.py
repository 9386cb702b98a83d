"""Runs trained and evaluated in this process by the words a user types."""

import io
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from taut.cli import main

ROOT = Path(__file__).resolve().parents[1]
QUIET = ["callbacks=none", "threads=1", "trainer.enable_progress_bar=false"]
TINY = [*QUIET, "trainer.max_epochs=1", "k_eval=4", "k_test=20"]
VAE = [*TINY, "network.hidden=[8]", "latent_dim=3", "logger=csv"]


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def command(name: str, *words: str) -> Done:
    """Run ``python <name>.py <words>`` in this process and leave it as it was."""
    out, err = io.StringIO(), io.StringIO()
    with _restored(), redirect_stdout(out), redirect_stderr(err):
        sys.argv = [f"{name}.py", *words]
        after_sweep = "taut.commands.evaluate:compare" if name == "evaluate" else None  # as evaluate.py says
        code = main(name, ROOT / "conf", f"taut.commands.{name}:{name}", after_sweep)
    return Done(code, out.getvalue(), err.getvalue())


def trained(folder: Path, *words: str) -> Path:
    """A run in ``folder``."""
    done = command("train", f"hydra.run.dir={folder}", *words)
    assert done.code == 0, done.err
    return folder


def evaluated(run: Path, *words: str) -> Done:
    """Evaluate a run."""
    return command("evaluate", f"run={run}", "threads=1", *words)


def copied(run: Path, folder: Path) -> Path:
    """A run that may be damaged."""
    return Path(shutil.copytree(run, folder / run.name))


def contents(*places: Path) -> dict[str, bytes]:
    """Every file below some places, and every empty folder."""
    found = [path for place in places for path in place.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


@contextmanager
def _restored() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    argv, environ, dtype = sys.argv, dict(os.environ), torch.get_default_dtype()
    os.environ["COLUMNS"] = "100"
    try:
        yield
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environ)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)
