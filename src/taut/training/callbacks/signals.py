"""Ctrl-C and SIGTERM between two batches, with a checkpoint to go on from."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from taut.training.callbacks.checkpoints import FOLDER
from taut.training.module import LatentVariableModel

CODES = {
    signal.SIGINT: 128 + signal.SIGINT,
    signal.SIGTERM: 128 + signal.SIGTERM,
    signal.SIGUSR1: 128 + signal.SIGTERM,
    signal.SIGUSR2: 128 + signal.SIGTERM,
}
"""Exit codes; Slurm can be asked to send SIGUSR1 or SIGUSR2 some time before its limit (``sbatch --signal``)."""
PATTERN = "interrupted-step=*.ckpt"


class GracefulStop(Callback):
    """Ends a fit or a test on a signal, at the end of the batch at hand, with ``SystemExit``: 130 or 143.

    Within an epoch a checkpoint is written first, so that no step is lost. Behind the last batch of an epoch and in
    evaluations nothing is written: the epoch is repeated from the last checkpoint. A second Ctrl-C stops at once;
    SIGTERM may come twice, from whoever started the processes and from whoever started that. All ranks stop together.
    """

    every_step = False

    def __init__(self) -> None:
        self._code = 0
        self._previous: dict[int, Any] = {}
        self._model: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, unless a handler is asked to leave a signal alone."""
        self._model = pl_module
        # Python lets the main thread alone set handlers
        if threading.current_thread() is threading.main_thread():
            for number in CODES:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    # setup comes again for the test: keep the handler that was there before ours
                    self._previous.setdefault(number, signal.signal(number, self._note))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the signals back, and what came too late for a batch."""
        self._hand_back()
        if self._code:
            raise SystemExit(self._code)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._hand_back()

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

    def _hand_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._code and number == signal.SIGINT:
            raise SystemExit(self._code)
        if not self._code and rank_zero_only.rank == 0:
            # not print, which is not re-entrant: the signal may have interrupted a print
            os.write(2, b"\nStopping after this batch; Ctrl-C to stop at once.\n")
        self._code = self._code or CODES[signal.Signals(number)]
        if isinstance(self._model, LatentVariableModel):
            self._model.show_every_step()

    def _stop_if_asked(self, trainer: Trainer, save: bool = False) -> None:
        asked = bool(self._code)
        if trainer.world_size > 1:
            # a process that stopped alone would leave the others waiting in a collective
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if not asked:
            return
        if save:
            _remove(trainer)
            name = f"interrupted-step={trainer.global_step:08d}.ckpt"
            trainer.save_checkpoint(Path(trainer.default_root_dir) / FOLDER / name)
        # the signal may have reached another process only
        raise SystemExit(self._code or CODES[signal.SIGTERM])


def _remove(trainer: Trainer) -> None:
    if trainer.is_global_zero:
        for path in (Path(trainer.default_root_dir) / FOLDER).glob(PATTERN):
            path.unlink(missing_ok=True)
