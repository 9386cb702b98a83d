"""Ctrl-C and SIGTERM between two batches, with a checkpoint to go on from."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from taut.callbacks.checkpoints import FOLDER

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATTERN = "interrupted-step=*.ckpt"


class GracefulStop(Callback):
    """Ends a fit or a test on a signal, at the end of the batch at hand, with ``SystemExit(128 + signal)``.

    Within an epoch a checkpoint is written first, so that no step is lost; the ``train/`` averages of that epoch then
    cover the steps after the resume. Behind the last batch of an epoch and in evaluations nothing is written: the
    epoch is repeated from the last checkpoint. A second signal stops at once. All ranks stop together.
    """

    def __init__(self) -> None:
        self._signal = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._listen()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_asked(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.is_last_batch:
            self._stop_if_asked(trainer, save=True)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._stop_if_asked(trainer)

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _remove(trainer)

    def _listen(self) -> None:
        """Take over from Lightning, which by now has its own handlers and at the end puts back the earliest."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._signal:
            raise SystemExit(128 + number)
        self._signal = number
        if rank_zero_only.rank == 0:
            os.write(2, b"\nStopping after this batch; once more to stop at once.\n")

    def _stop_if_asked(self, trainer: Trainer, save: bool = False) -> None:
        asked = bool(self._signal)
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        if save:
            _remove(trainer)
            name = f"interrupted-step={trainer.global_step:08d}.ckpt"
            trainer.save_checkpoint(Path(trainer.default_root_dir) / FOLDER / name)
        raise SystemExit(128 + (self._signal or signal.SIGTERM))


def _remove(trainer: Trainer) -> None:
    if trainer.is_global_zero:
        for path in (Path(trainer.default_root_dir) / FOLDER).glob(PATTERN):
            path.unlink(missing_ok=True)
