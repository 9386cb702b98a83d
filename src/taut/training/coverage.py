"""What a run was limited to: the sentences that say which batches and steps its numbers are of."""

from math import inf
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from taut.data.base import Data


def sentences(trainer: Trainer, data: Data, chosen: str | None) -> list[str]:
    """What a reader would not expect of the numbers, in one sentence each; none for a run without limits.

    Args:
        trainer: After fit and test.
        data: What it was given.
        chosen: The checkpoint that validation chose; ``None`` where the last weights were tested.
    """
    overfit = "overfit_batches" if trainer.overfit_batches else None
    batches = (
        _batches("training", trainer.num_training_batches, training_batches(data), overfit or "limit_train_batches")
        if _limited(trainer.limit_train_batches)
        else None,
        _batches("validation", trainer.num_val_batches, len(data.val_dataloader()), overfit or "limit_val_batches")
        if _limited(trainer.limit_val_batches)
        else None,
        _batches("test", trainer.num_test_batches, len(data.test_dataloader()), "limit_test_batches")
        if _limited(trainer.limit_test_batches)
        else None,
    )
    return [*filter(None, batches), *_end(trainer), *_weights(trainer, chosen)]


def all_trained_on(trainer: Trainer, data: Data) -> bool:
    """Tell whether every epoch went through all batches of the training split."""
    return not _limited(trainer.limit_train_batches) or trainer.num_training_batches == training_batches(data)


def training_batches(data: Data) -> int:
    """Batches of the training split."""
    return len(data.train_dataloader())


def _limited(limit: float) -> bool:
    # an integer counts batches, and 1 is one batch, not all of them
    return isinstance(limit, int) or limit < 1


def _batches(stage: str, used: Any, of: int, key: str) -> str | None:
    # Lightning has a list of numbers for validation and test, one for each loader, and infinity before it asked for them
    count = sum(used) if isinstance(used, list) else used
    count = 0 if count == inf else count
    if count == of:
        return None
    return f"{stage}: {count} of {of} batches (trainer.{key})" if count else f"{stage}: none (trainer.{key}=0)"


def _end(trainer: Trainer) -> list[str]:
    steps = f"{trainer.global_step:,} step{'s' * (trainer.global_step != 1)}"
    where = f"after {steps}, in epoch {max(trainer.current_epoch, 1):,} of {trainer.max_epochs:,}"
    if 0 < trainer.max_steps <= trainer.global_step:
        return [f"training ended {where} (trainer.max_steps)"]
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if any(callback.time_remaining() <= 0 for callback in callbacks if isinstance(callback, Timer)):
        return [f"training ended {where} (trainer.max_time)"]
    return []


def _weights(trainer: Trainer, chosen: str | None) -> list[str]:
    if chosen is not None:
        return []
    if not trainer.checkpoint_callbacks:
        return ["no checkpoint was kept (trainer.enable_checkpointing=false): the last weights were tested"]
    return ["nothing was validated, so that no weights were chosen: the last ones were kept and tested"]
