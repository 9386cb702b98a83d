"""The folder of a run while it trains: written to when nothing can refuse the run any more, and missed when gone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from taut.errors import RunError

LOOK_SECONDS = 1.0
"""Seconds between two looks at the folder: on a network's disk each takes its time."""


class RunFolder(Callback):
    """Calls ``begin`` before the first step, when all of a checkpoint has been restored, and looks for the folder.

    It stands before all other callbacks: a run that is refused has written nothing by then.

    Args:
        folder: The run folder.
        begin: Writes down what the run goes on with.
    """

    every_step = False

    def __init__(self, folder: Path, begin: Callable[[], None]) -> None:
        self.folder, self.begin = folder, begin
        self._own = os.stat(folder)
        self._looked = monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._look(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._look(trainer)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._looked = -LOOK_SECONDS  # whatever the time: the epoch is written down next
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        """Look for the folder, if some time has passed.

        Raises:
            RunError: If it is gone, or another has taken its place.
        """
        if not trainer.is_global_zero or monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = monotonic()
        try:
            there = os.path.samestat(os.stat(self.folder), self._own)
        except OSError:
            there = False
        if not there:
            raise gone(self.folder)


@contextmanager
def ended_without(folder: Path) -> Iterator[None]:
    """Inside, what cannot be written because the folder is gone ends the run in one sentence.

    Raises:
        RunError: If the folder is gone.
    """
    try:
        yield
    except OSError as error:
        if folder.is_dir():
            raise
        raise gone(folder) from error


def gone(folder: Path) -> RunError:
    """The end of a command whose run folder was taken away."""
    return RunError(
        f"{folder} was deleted or moved in the meantime; nothing more can be kept there, so this ends here."
    )
