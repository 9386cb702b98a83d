"""Progress in the terminal: one bar for the whole fit, or a few lines where there is no terminal."""

from collections.abc import Mapping
from math import inf
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from taut.errors import UserError


class EpochBar(ProgressBar):
    """One bar over all epochs with the last validation bound and gap beside it, and one bar for the test.

    Without a terminal (a pipe, a log of a build server) it prints at most ``lines`` lines per fit instead.

    Args:
        lines: Lines per fit where there is no terminal.
        refresh_per_second: How often the terminal is redrawn.

    Raises:
        UserError: If one of the two is not positive.
    """

    def __init__(self, lines: int = 10, refresh_per_second: float = 4) -> None:
        super().__init__()
        for name, value in (("lines", lines), ("refresh_per_second", refresh_per_second)):
            if not value > 0:
                raise UserError(f"callbacks.progress.{name}={value} is not positive; choose a larger number.")
        self.lines, self.refresh_per_second = lines, refresh_per_second
        self._enabled = True
        self._bar: Progress | None = None
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
        if self._bar is None and self._enabled and (done == last or done % max(1, -(-last // self.lines)) == 0):
            Console().print(f"epoch {done}/{last}  {self._news}", highlight=False)

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
        if self._enabled and Console().is_terminal:
            self._bar = _bar(self.refresh_per_second)
            self._bar.add_task(description, total=total, news=self._news)
            self._bar.start()

    def _show(self, **fields: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], **fields)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def headline(metrics: Mapping[str, Any], log_px_kind: str) -> str:
    """The validation bound and gap in a few words, nats; empty before the first validation."""
    sign = "=" if log_px_kind == "exact" else ">="
    words = {"val/bound": "bound {:.2f}", "val/gap": f"gap {sign} {{:.2f}}"}
    return "  ".join(
        word.format(round(float(metrics[name]), 2) + 0.0) for name, word in words.items() if name in metrics
    )


def _bar(refresh_per_second: float) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}"),
        refresh_per_second=refresh_per_second,
    )
