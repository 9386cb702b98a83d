"""KL warm-up."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from taut.errors import UserError


class KLWarmup(Callback):
    r"""Raises the weight of the KL in the surrogate from 0 to 1, linearly over the first epochs.

    $\beta(e) = \min(1, e / E)$ with $e$ the epoch, counted in fractions of an epoch. The weight is a function
    of the position in training alone, so a resumed run meets the same weights. Bounds are reported at
    weight 1 throughout (Bowman et al., 2016; Sønderby et al., 2016).

    Args:
        epochs: $E$, the number of epochs until the weight is 1.

    Raises:
        UserError: If ``epochs`` is not positive.
    """

    def __init__(self, epochs: float) -> None:
        if not epochs > 0:
            raise UserError(
                f"callbacks.warmup.epochs must be above 0, got {epochs}; leave the callback out to train without "
                "warm-up."
            )
        self.epochs = epochs

    def weight(self, epoch: float) -> float:
        """The weight at a (fractional) epoch.

        >>> [KLWarmup(4).weight(epoch) for epoch in (0, 1, 2.5, 4, 9)]
        [0.0, 0.25, 0.625, 1.0, 1.0]
        """
        return min(1.0, epoch / self.epochs)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a q that is the posterior: its gradient is exact at weight 1 alone.

        Raises:
            UserError: Naming the way out.
        """
        del trainer
        if getattr(pl_module.q, "exact", False):
            raise UserError("callbacks=warmup weighs the KL to a q that is learned, but q=exact is not; leave it out.")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        fraction = batch_idx / trainer.num_training_batches
        pl_module.kl_weight = self.weight(trainer.current_epoch + fraction)  # type: ignore[assignment]
