"""The W&B logger: axes and sections of its record, and a training that goes on without it."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment, rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from taut.config.secrets import redacted
from taut.training.loggers.connection import in_time
from taut.training.loggers.launch import without_launch

SECTIONS = ("train", "val", "speed", "pictures", "test")
FINISH, PATIENCE, PARTING = 9.0, 12.0, 1.5
"""Seconds W&B may take to upload what is left at the end of a run, to close it in all, and to go after a failure."""
OFFLINE = "the run is recorded offline, for `wandb sync`."
WITHOUT = "the run goes on without it, and metrics.csv and result.json hold its numbers."
BEST = {
    "max": ("val/elbo", "val/bound", "val/log_px", "val/ess", "val/active_units"),
    "min": ("val/gap",),
}


class Wandb(WandbLogger):
    """Lightning's logger for W&B, which defines axes and summaries when the run starts and never ends a training.

    Scores are drawn against the epoch; the summary holds the best validation value of each
    (``val/bound.max``) beside the last. The first call that W&B fails is reported in one sentence; from then on the run
    does without it. A process that did not make the logger finishes its own share of the run, so that no worker
    leaves an open file.

    Args:
        remedy: What is left to do where W&B cannot be opened online: open it offline.
        **settings: Of Lightning's logger and of ``wandb.init``.
    """

    def __init__(self, remedy: Callable[[], None] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        del self._wandb_init["anonymous"]  # W&B warns about the mere key
        self._home = os.getpid()
        self._remedy, self._left = remedy, False

    @property
    @rank_zero_experiment
    @without_launch()
    def experiment(self) -> Any:
        if self._left:
            return _DummyExperiment()
        if self._experiment is not None:
            return self._experiment
        try:
            define_metrics(super().experiment)
        except Exception as error:
            self._opened_otherwise(error)
        return _DummyExperiment() if self._left else self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._attempt(super().log_metrics, metrics, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self._attempt(super().log_image, key, images, step, **kwargs)

    def log_hyperparams(self, params: Any) -> None:
        self._attempt(super().log_hyperparams, params)

    def summarise(self, numbers: Mapping[str, Any]) -> None:
        """Put numbers and words into the summary of the run."""
        self._attempt(lambda: self._left or self.experiment.summary.update(dict(numbers)))

    def finalize(self, status: str) -> None:
        self._attempt(super().finalize, status)
        if os.getpid() != self._home and self._experiment is not None:
            finish(0 if status == "success" else 1)

    def _attempt(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if self._left:
            return
        try:
            call(*args, **kwargs)
        except Exception as error:
            self._leave(error)

    def _opened_otherwise(self, error: Exception) -> None:
        # once: where it fails offline too, the run goes on without W&B
        remedy, self._remedy = self._remedy, None
        if remedy is None:
            self._leave(error)
            return
        forget()
        remedy()
        say(f"W&B could not be opened online ({_shown(error)}); {OFFLINE}")
        self._wandb_init["settings"]["mode"] = "offline"
        self._experiment = None
        _ = self.experiment

    def _leave(self, error: Exception) -> None:
        self._left, self._experiment = True, None
        forget()
        say(f"W&B failed ({_shown(error)}); {WITHOUT}")


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
            say(f"W&B's upload did not finish ({_shown(error)}); {place}")
        else:
            say(f"W&B did not close its record ({_shown(error)}).")


def forget() -> None:
    """Part from a W&B that fails: no run of this process, no service, nothing left to do at exit."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is None:
        return
    wandb.run = None
    with suppress(Exception, SystemExit):  # it exits with the code of its service
        in_time(wandb.teardown, PARTING)


def _shown(error: Exception) -> str:
    """The kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200].rstrip(": ")
