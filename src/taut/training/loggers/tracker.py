"""The W&B logger: axes and sections of its record, its end, and a parting from it where it fails."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from taut.config.secrets import redacted
from taut.runtime.connection import in_time

SECTIONS = ("train", "val", "speed", "pictures", "test")
FINISH, PATIENCE, PARTING = 9.0, 12.0, 1.5
"""Seconds W&B may take to upload what is left at the end of a run, to close it in all, and to go after a failure."""
MOST_ROWS = 10_000_000
"""Rows that no record of W&B has."""
OFFLINE = "the run is recorded offline, for `wandb sync`."
WITHOUT = "the run goes on without it, and metrics.csv and result.json hold its numbers."
LAUNCH = "wandb.sdk.launch"
"""W&B Launch, which nobody here uses."""
BEST = {
    "max": ("val/elbo", "val/bound", "val/log_px", "val/ess", "val/active_units"),
    "min": ("val/gap",),
}


@contextmanager
def without_launch() -> Iterator[None]:
    """Have ``wandb.init`` in the block import one module of W&B Launch in the place of all of it.

    It asks whether inputs of a job of Launch are waiting, and for that Python imports the whole package around the
    module that knows, agents and API among it: a second of processor time of the seven to the first training step
    (wandb 0.31). In the block the package is one that holds nothing and finds its modules; afterwards it is to be
    imported as ever. Where it has been imported already it may have inputs, and stays.
    """
    import wandb.sdk

    if LAUNCH in sys.modules:
        yield
        return
    package = ModuleType(LAUNCH)
    package.__path__ = [f"{place}/launch" for place in wandb.sdk.__path__]
    sys.modules[LAUNCH] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == LAUNCH or name.startswith(f"{LAUNCH}.")]:
            del sys.modules[name]


class Wandb(WandbLogger):
    """Lightning's logger for W&B, which defines axes and summaries when the run starts.

    Scores are drawn against the epoch; the summary holds the best validation value of each
    (``val/bound.max``) beside the last. A process that did not make the logger finishes its own share of the run, so
    that no worker leaves an open file.

    Args:
        remedy: What is left to do where W&B cannot be opened online: open it offline.
        earlier: Number of records of the same run that were made before this one.
        **settings: Of Lightning's logger and of ``wandb.init``.
    """

    def __init__(self, remedy: Callable[[], None] | None = None, earlier: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        del self._wandb_init["anonymous"]  # W&B warns about the mere key
        self._home = os.getpid()
        self._remedy, self._earlier = remedy, earlier

    @property
    @rank_zero_experiment
    @without_launch()
    def experiment(self) -> Any:
        if self._experiment is not None:
            return self._experiment
        try:
            self._open(super().experiment)
        except Exception as error:
            self._open_otherwise(error)
        return self._experiment

    def finalize(self, status: str) -> None:
        super().finalize(status)
        if os.getpid() != self._home and self._experiment is not None:
            finish(0 if status == "success" else 1)

    def _open(self, run: Any) -> None:
        define_metrics(run)
        if self._earlier and run.settings.mode == "offline":
            # W&B numbers the rows of each record from 0, and its server drops those of a number that it has had
            run.log({}, step=self._earlier * MOST_ROWS)

    def _open_otherwise(self, error: Exception) -> None:
        """Open the run offline.

        Raises:
            Exception: The error, where it is offline that W&B cannot be opened.
        """
        remedy, self._remedy, self._experiment = self._remedy, None, None
        if remedy is None:
            raise error
        forget()
        remedy()
        say(f"W&B could not be opened online ({shown(error)}); {OFFLINE}")
        self._wandb_init["settings"]["mode"] = "offline"
        _ = self.experiment


@rank_zero_only
def say(sentence: str) -> None:
    """Tell the user, once in a data-parallel run."""
    # an error of W&B may quote its API key
    print(redacted(sentence), file=sys.stderr, flush=True)


def define_metrics(run: Any) -> None:
    """Tell a W&B run which axis its metrics are drawn against and which extreme of each is best."""
    run.define_metric("epoch", hidden=True)
    for section in SECTIONS:
        run.define_metric(f"{section}/*", step_metric="epoch")
    run.define_metric("curve/k", hidden=True)
    run.define_metric("curve/*", step_metric="curve/k")
    for best, names in BEST.items():
        for name in names:
            run.define_metric(name, step_metric="epoch", summary=f"{best},last")


def finish(exit_code: int) -> None:
    """Close the W&B run of this process, if there is one, so that the next job starts its own."""
    # not imported only to be closed
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    settings = wandb.run.settings
    try:
        in_time(lambda: wandb.finish(exit_code=exit_code), PATIENCE)
    except Exception as error:
        forget()
        if settings.mode == "online":
            place = f"all of it lies in {settings.sync_dir}, for `wandb sync`."
            say(f"W&B's upload did not finish ({shown(error)}); {place}")
        else:
            say(f"W&B did not close its record ({shown(error)}).")


def forget() -> None:
    """Part from a W&B that fails: no run of this process, no service, nothing left to do at exit."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is None:
        return
    wandb.run = None
    with suppress(Exception, SystemExit):  # it exits with the code of its service
        in_time(wandb.teardown, PARTING)


def shown(error: BaseException) -> str:
    """The kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200].rstrip(": ")
