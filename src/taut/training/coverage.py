"""What a run was limited to: the sentences that say which batches and steps its numbers are of."""

from math import inf
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from taut.data.base import Data

KEYS = {"training": "train", "validation": "val", "test": "test"}


def sentences(trainer: Trainer, data: Data, chosen: str | None) -> list[str]:
    """What a reader would not expect of the numbers, in one sentence each; none for a run without limits.

    Args:
        trainer: After fit and test.
        data: What it was given.
        chosen: The checkpoint that validation chose; ``None`` where the last weights were tested.
    """
    every: Any = trainer  # its types do not name the limits
    overfit = "overfit_batches" if every.overfit_batches else None
    stages = (
        ("training", every.limit_train_batches, every.num_training_batches, data.train_dataloader, overfit),
        ("validation", every.limit_val_batches, every.num_val_batches, data.val_dataloader, overfit),
        ("test", every.limit_test_batches, every.num_test_batches, data.test_dataloader, None),
    )
    batches = [
        _batches(stage, used, len(loader()), key or f"limit_{KEYS[stage]}_batches")
        for stage, limit, used, loader, key in stages
        if _limited(limit)
    ]
    return [*filter(None, batches), *_end(trainer), *_weights(trainer, chosen)]


def all_trained_on(trainer: Trainer, data: Data) -> bool:
    """Tell whether every epoch went through all batches of the training split."""
    return not _limited(trainer.limit_train_batches) or trainer.num_training_batches == len(data.train_dataloader())


def _limited(limit: float) -> bool:
    # an integer counts batches, and 1 is one batch, not all of them
    return isinstance(limit, int) or limit < 1


def _batches(stage: str, used: Any, of: int, key: str) -> str | None:
    # Lightning has a list for validation and test, one number for each loader, and infinity where it asked for none
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
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (its types do not name it)
    left = [callback.time_remaining() for callback in callbacks if isinstance(callback, Timer)]
    if any(seconds is not None and seconds <= 0 for seconds in left):
        return [f"training ended {where} (trainer.max_time)"]
    return []


def _weights(trainer: Trainer, chosen: str | None) -> list[str]:
    if chosen is not None:
        return []
    if not trainer.checkpoint_callbacks:
        return ["no checkpoint was kept (trainer.enable_checkpointing=false): the last weights were tested"]
    return ["nothing was validated, so that no weights were chosen: the last ones were kept and tested"]
