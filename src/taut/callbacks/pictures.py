"""Pictures of a run while it trains and when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure
from torch import Tensor, nn

from taut import figures
from taut.callbacks.drawings import DRAWINGS, Subject
from taut.callbacks.history import metrics_file, read
from taut.errors import UserError
from taut.functional.seeding import forked, key
from taut.strategies import whole_weights

MOST_ROWS = 1000


class Pictures(Callback):
    """Draws what the model offers into ``<run folder>/figures`` and, with the same call, into W&B.

    Validation pictures are drawn after 1, 2, 4, 8 ... times ``every_n_epochs`` epochs and after the last one, test
    pictures at the end of the test; each overwrites its predecessor on disk, and W&B keeps them all. Only the first
    rank draws. Neither random generators nor training mode are touched.

    Args:
        every_n_epochs: Epochs before the first set of validation pictures.
        count: Images in a row.

    Raises:
        UserError: If one of the two is not a positive integer.
    """

    def __init__(self, every_n_epochs: int = 10, count: int = 12) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("count", count)):
            if value < 1:
                raise UserError(f"callbacks.pictures.{name}={value} is not a positive integer; choose 1 or more.")
        self.every_n_epochs, self.count = every_n_epochs, count
        self._drawn_epoch: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sets, epochs = divmod(trainer.current_epoch + 1, self.every_n_epochs)
        due = trainer.state.fn != "fit" or (not epochs and sets.bit_count() == 1)
        if due and not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")
            self._drawn_epoch = trainer.current_epoch

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._drawn_epoch != trainer.current_epoch - 1:
            self._draw(trainer, pl_module, "val")
        self._draw_history(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, model: Any, stage: str) -> None:
        with whole_weights(trainer):
            if trainer.is_global_zero:
                self._draw_all(trainer, model, stage)

    def _draw_all(self, trainer: Trainer, model: Any, stage: str) -> None:
        with _undisturbed(model), forked(model.device):
            torch.manual_seed(key(model.seed, f"pictures/{stage}", trainer.current_epoch))
            subject = self._subject(trainer, model, stage)
            for drawing in DRAWINGS:
                figure = drawing(subject)
                if figure is not None:
                    _publish(trainer, f"{drawing.__name__}_{stage}", figure)

    def _subject(self, trainer: Trainer, model: Any, stage: str) -> Subject:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        binarisation = "" if data.binarisation == "none" else f" ({data.binarisation})"
        observed = "" if data.mask is None else ", observed cells"
        return Subject(
            model=model,
            x=_rows(data, stage).to(model.device),
            columns=None if data.columns is None else tuple(data.columns),
            stage=stage,
            count=self.count,
            caption=f"{type(model).__name__}, k = {model.k}, on {data.name}{binarisation}{observed}, {stage} split",
        )

    def _draw_history(self, trainer: Trainer, model: Any) -> None:
        path = metrics_file(trainer)
        if trainer.is_global_zero and path.exists():
            curve = model.curve("val")
            kind = "lower" if curve is None else curve[-1]
            _publish(trainer, "history", figures.history(read(path), log_px_kind=kind))


def _rows(data: Any, stage: str) -> Tensor:
    """The first rows of a split, as the model meets them (binarised)."""
    batches, seen = [], 0
    for batch in getattr(data, f"{stage}_dataloader")():
        batches.append(batch.x)
        seen += len(batch.x)
        if seen >= MOST_ROWS:
            break
    return torch.cat(batches)[:MOST_ROWS]


def _publish(trainer: Trainer, name: str, figure: Figure) -> None:
    path = Path(trainer.default_root_dir) / "figures" / f"{name}.png"
    try:
        figures.save(figure, path)
    except OSError as error:
        rank_zero_warn(f"The picture {path} could not be written ({error}); the run goes on without it.")
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(f"pictures/{name}", [str(path)], step=trainer.global_step)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside, every module in its own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
