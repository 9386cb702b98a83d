"""Throughput of training and of validation."""

from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Speed(Callback):
    """Logs ``speed/images_per_second`` of training and ``speed/val_images_per_second`` every epoch.

    The time spent in validation and pictures does not count as training. A GPU is waited for at the ends of
    the timed stretches only, never in a step.
    """

    def __init__(self) -> None:
        self._train = _Stretch()
        self._val = _Stretch()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train = _Stretch()
        self._train.resume(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._train.resume(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._train.rows += batch.total

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train.pause(pl_module.device)
        self._val = _Stretch()
        self._val.resume(pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._val.rows += batch.total

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._val.pause(pl_module.device)
        if not trainer.sanity_checking:
            pl_module.log("speed/val_images_per_second", self._val.rate, sync_dist=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train.pause(pl_module.device)
        pl_module.log("speed/images_per_second", self._train.rate, sync_dist=True)


class _Stretch:
    """Rows and seconds between ``resume`` and ``pause``."""

    def __init__(self) -> None:
        self.rows = 0
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def rate(self) -> float:
        return self.rows / max(self.seconds, 1e-9)

    def resume(self, device: torch.device) -> None:
        if self._since is None:
            self._since = _now(device)

    def pause(self, device: torch.device) -> None:
        if self._since is not None:
            self.seconds += _now(device) - self._since
            self._since = None


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()
