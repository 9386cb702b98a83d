"""The metrics file of a run."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from taut.config.foreign import read_metrics
from taut.files import not_through_a_link, open_regular, write_atomically

NAME = "metrics.csv"
FIRST = ("epoch", "step", "seconds")
WITH_ERRORS = ("bound", "elbo", "log_px")
LOGGED = ("train/", "val/", "speed/")

read = read_metrics


class History(Callback):
    """Writes ``metrics.csv`` into the run folder: one row per epoch, on disk before the next epoch begins.

    Columns are ``epoch``, ``step``, ``seconds`` (of this epoch, validation included), every ``train/``, ``val/`` and
    ``speed/`` metric that was logged, and ``val_error/`` with the standard errors of the bounds over the data; a cell
    is empty in an epoch without validation. A resumed run drops the rows its checkpoint does not know, so the file ends
    up as that of an uninterrupted run, timings apart.
    """

    def __init__(self) -> None:
        self._since = self._spent = 0.0
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        """The seconds of this epoch so far."""
        return {"seconds": perf_counter() - self._since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._spent = state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a run that goes on within an epoch does not start it again
        self._since = perf_counter() - self._spent
        path = metrics_file(trainer)
        if trainer.is_global_zero and path.exists():
            write(path, [row for row in read(path) if row["epoch"] < trainer.current_epoch])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since, self._validated = perf_counter(), False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics  # reduced over ranks: every rank must ask
        seconds, self._since = perf_counter() - self._since, perf_counter()
        if trainer.is_global_zero:
            # callback_metrics still holds the scores of the last validation, which may be of an earlier epoch
            wanted = tuple(prefix for prefix in LOGGED if prefix != "val/" or self._validated)
            append(
                metrics_file(trainer),
                {
                    "epoch": trainer.current_epoch,
                    "step": trainer.global_step,
                    "seconds": round(seconds, 4),
                    **{name: metrics[name].item() for name in sorted(metrics) if name.startswith(wanted)},
                    **(errors(pl_module) if self._validated else {}),
                },
            )


def errors(module: LightningModule) -> dict[str, float]:
    """Standard errors over the validation rows of what a search maximises, nats, as ``val_error/<score>``."""
    summary = getattr(module, "summaries", {}).get("val")
    known = {} if summary is None else {name: summary.scores[name]["standard_error"] for name in WITH_ERRORS}
    # one datum does not tell how data differ
    return {f"val_error/{name}": error for name, error in known.items() if error is not None}


def metrics_file(trainer: Trainer) -> Path:
    """Path of the metrics file of this run."""
    return Path(trainer.default_root_dir) / NAME


def write(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Replace a metrics file by these rows, all or nothing; columns in order of first appearance."""
    columns = list(dict.fromkeys((*FIRST, *(name for row in rows for name in row))))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def append(path: Path, row: Mapping[str, float]) -> None:
    """Add one row; a column the file does not have yet rewrites it whole."""
    columns = _columns(path)
    if not set(row) <= set(columns):
        write(path, [*(read(path) if columns else []), row])
        return
    with open(path, "a", encoding="utf-8", newline="", opener=not_through_a_link) as file:
        csv.DictWriter(file, columns, lineterminator="\n").writerow(row)


def _columns(path: Path) -> list[str]:
    if not path.exists():
        return []
    with open_regular(path) as file:
        return next(csv.reader([file.readline().decode("utf-8")]), [])
