"""Progress in the terminal: one bar for the whole fit, or a few lines where there is no terminal."""

from collections.abc import Mapping
from math import inf
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import TaskID
from torch import nn

from taut.errors import UserError
from taut.runtime.progress import Bars


class EpochBar(ProgressBar):
    """One bar over all epochs with the last validation bound and gap beside it, and one bar for the test.

    Without a terminal (a pipe, a log of a build server) it prints at most ``lines`` lines per fit instead. Lightning's
    own bars start anew with every epoch, so that the time left is that of an epoch, and have no short form for a log.

    Args:
        lines: Lines per fit where there is no terminal.
        refresh_per_second: How often the terminal is redrawn.

    Raises:
        UserError: If one of the two is not positive.
    """

    every_step = False

    def __init__(self, lines: int = 10, refresh_per_second: float = 4) -> None:
        super().__init__()
        for name, value in (("lines", lines), ("refresh_per_second", refresh_per_second)):
            if not value > 0:
                raise UserError(f"callbacks.progress.{name} must be above 0, got {value}.")
        self.lines, self.refresh_per_second = lines, refresh_per_second
        self._enabled = True
        self._bars: Bars | None = None
        self._bar: TaskID | None = None
        self._news = ""

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else inf
        total = epochs * trainer.num_training_batches
        self._open(None if total == inf else total, f"epoch {trainer.current_epoch + 1}")

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._show(description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._show(completed=trainer.current_epoch * trainer.num_training_batches + batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._news = headline(trainer.callback_metrics, getattr(pl_module, "log_px_kind", "lower"))
        self._show(news=self._news)
        done, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        if self._bars is not None and (done == last or done % max(1, -(-last // self.lines)) == 0):
            self._bars.print(f"epoch {done}/{last}  {self._news}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._news = ""
        self._open(sum(trainer.num_test_batches), "test")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._show(completed=batch_idx + 1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _open(self, total: float | None, description: str) -> None:
        self._close()
        self._bars = Bars(self._enabled, self.refresh_per_second)
        self._bar = self._bars.add(description, total, self._news)
        self._bars.start()

    def _show(self, **fields: Any) -> None:
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, **fields)

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = self._bar = None


def headline(metrics: Mapping[str, Any], log_px_kind: str) -> str:
    """The validation bound and gap in a few words, nats; empty before the first validation."""
    sign = "=" if log_px_kind == "exact" else ">="
    words = {"val/bound": "bound {:.2f}", "val/gap": f"gap {sign} {{:.2f}}"}
    # + 0.0 turns a rounded -0.0 into 0.0
    return "  ".join(
        word.format(round(float(metrics[name]), 2) + 0.0) for name, word in words.items() if name in metrics
    )


class Speed(Callback):
    """Logs ``speed/rows_per_second`` of training and ``speed/val_rows_per_second`` every epoch.

    The time spent in validation and pictures does not count as training. A GPU is waited for at the ends of
    what is timed only, never in a step: Lightning's ``ThroughputMonitor`` waits for it at every batch it counts,
    and reports a sliding window of batches instead of the epoch.
    """

    every_step = False

    def __init__(self) -> None:
        self._train = _Clock()
        self._val = _Clock()

    def state_dict(self) -> dict[str, Any]:
        """Rows and seconds of training in this epoch so far."""
        return {"rows": self._train.rows, "seconds": self._train.so_far}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._train.rows, self._train.seconds = state_dict["rows"], state_dict["seconds"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train = _Clock()
        self._train.resume(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._train.resume(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # and what the module has trained on since it was called last
        self._train.rows += batch.total + pl_module.further_rows

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train.pause(pl_module.device)
        self._val = _Clock()
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
            pl_module.log("speed/val_rows_per_second", self._val.rate, sync_dist=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train.pause(pl_module.device)
        pl_module.log("speed/rows_per_second", self._train.rate, sync_dist=True)
        self._train = _Clock()  # a checkpoint of this moment holds nothing of the next epoch


class _Clock:
    """Rows and seconds between ``resume`` and ``pause``."""

    def __init__(self) -> None:
        self.rows = 0
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def rate(self) -> float:
        # a clock of low resolution may not have moved
        return self.rows / max(self.seconds, 1e-9)

    @property
    def so_far(self) -> float:
        """Seconds until now; a GPU is not waited for."""
        return self.seconds + (0.0 if self._since is None else perf_counter() - self._since)

    def resume(self, device: torch.device) -> None:
        if self._since is None:
            self._since = _now(device)

    def pause(self, device: torch.device) -> None:
        if self._since is not None:
            self.seconds += _now(device) - self._since
            self._since = None


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        # kernels run behind Python: without it the time of launching them would be measured
        torch.cuda.synchronize(device)
    return perf_counter()


class Sizes(Callback):
    """Prints the number of parameters of prior, likelihood and q, and what they have chosen, before training starts."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before a strategy spreads the parameters over processes."""
        if trainer.is_global_zero and stage == "fit":
            joint, q = pl_module.joint, pl_module.q
            parts = {"prior": joint.prior, "likelihood": joint.likelihood, "q": q}  # type: ignore[union-attr]
            sizes = ", ".join(f"{name} {own_size(part):,}" for name, part in parts.items())
            # without highlight, or rich would colour the numbers
            Console().print(f"parameters: {sizes}", highlight=False)
            if joint.likelihood.about:  # type: ignore[union-attr]
                Console().print(joint.likelihood.about, highlight=False, markup=False)  # type: ignore[union-attr]


def own_size(part: nn.Module) -> int:
    """Number of parameters of a piece without those of the joint it may refer to."""
    return sum(p.numel() for name, p in part.named_parameters() if not name.startswith("joint."))
