r"""Training steps that Lightning need not see: on a CPU some follow each of its own at once.

Around a step Lightning calls hooks, callbacks and contexts for about 0.6 ms, a tenth or more of a small model's step.
Nothing changes but that: the steps meet the same batches and noise, its counters go on as if it had made
them (so checkpoints, ``max_steps`` and ``resume=`` are the same to the bit), and whatever Lightning, a report or a
callback does at some step meets that step as Lightning's own.
"""

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from taut.data.batches import Batches

FURTHER = 9
"""Most steps that follow one of Lightning's, whose callbacks draw the progress bar and look for the run folder."""
HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Methods of a callback, and of a model, that Lightning calls at every step."""
OF_A_MODEL = (
    "training_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
)
"""Further methods of a model that it calls at every step."""


def possible(trainer: L.Trainer, model: L.LightningModule, base: type[L.LightningModule]) -> bool:
    """Tell whether a training has steps that nobody but the model itself has to see.

    Args:
        trainer: About to train.
        model: What is trained.
        base: The class whose hooks know of further steps; another one's want every step.
    """
    strategy = trainer.strategy
    if type(strategy) is not SingleDeviceStrategy or strategy.root_device.type != "cpu":
        return False
    plain = trainer.precision in ("32-true", "64-true") and trainer.accumulate_grad_batches == 1
    own = all(getattr(type(model), name) is getattr(base, name) for name in (*HOOKS, *OF_A_MODEL))
    epochs = all(config.interval == "epoch" for config in trainer.lr_scheduler_configs)
    by_batch = (
        trainer.check_val_every_n_epoch is not None and getattr(trainer, "_val_check_time_interval", None) is None
    )
    # one that says so, or has nothing to do with batches
    blind = all(not getattr(callback, "every_step", True) or not _sees_steps(callback) for callback in _of(trainer))
    return plain and own and epochs and by_batch and blind and isinstance(trainer.train_dataloader, Batches)


def _of(trainer: L.Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def _sees_steps(callback: Callback) -> bool:
    return any(is_overridden(name, callback, parent=Callback) for name in HOOKS)


def room(trainer: L.Trainer, batch_idx: int, report: int) -> int:
    """Number of steps after that of a batch, and before the next one that somebody has to see.

    Args:
        trainer: In the end of the step.
        batch_idx: The batch.
        report: Steps between two reports within an epoch.
    """
    between = trainer.val_check_batch
    intervals = [int(between)] if between not in (None, float("inf")) else []
    done = trainer.global_step
    saved = [callback._every_n_train_steps for callback in _of(trainer) if isinstance(callback, ModelCheckpoint)]
    free = [
        trainer.num_training_batches - batch_idx - 2,
        report - batch_idx % report - 1,
        *([trainer.max_steps - done - 1] if trainer.max_steps > 0 else []),
        # not behind a step after which it validates, either: it looks for that when this hook has ended
        *(interval - (batch_idx + 1) % interval - 1 if (batch_idx + 1) % interval else 0 for interval in intervals),
        *(interval - done % interval - 1 for interval in saved if interval),
    ]
    return int(max(0, min(FURTHER, *free)))


def count(trainer: L.Trainer) -> None:
    """Tell Lightning of a step that it did not see."""
    loop = trainer.fit_loop.epoch_loop
    for progress in (loop.batch_progress, loop.automatic_optimization.optim_progress.optimizer.step):
        progress.increment_ready()
        progress.increment_completed()
    loop.batch_progress.increment_started()
    loop.batch_progress.increment_processed()
    loop.automatic_optimization.optim_progress.optimizer.zero_grad.increment_ready()
    loop.automatic_optimization.optim_progress.optimizer.zero_grad.increment_started()
    loop.automatic_optimization.optim_progress.optimizer.zero_grad.increment_completed()
    loop._batches_that_stepped += 1
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    fetcher.fetched += 1
