"""KL warm-up: the weights of every step, resumed or not, and bounds that ignore them."""

import pytest
from lightning.pytorch import Callback

from taut.errors import UserError
from taut.training.callbacks.warmup import KLWarmup


class Weights(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(pl_module.kl_weight)


def test_the_weight_rises_by_equal_steps_to_one(trainer_in, blobs, model_of):
    weights = Weights()
    trainer_in(KLWarmup(2), weights, epochs=3).fit(model_of(blobs), datamodule=blobs)
    assert weights.seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1])


def test_a_resumed_run_meets_the_same_weights(tmp_path, trainer_in, blobs, model_of):
    whole, resumed = Weights(), Weights()
    trainer_in(KLWarmup(2), whole, epochs=3).fit(model_of(blobs), datamodule=blobs)
    first = trainer_in(KLWarmup(2), max_steps=3)
    first.fit(model_of(blobs), datamodule=blobs)
    first.save_checkpoint(tmp_path / "one.ckpt")
    trainer_in(KLWarmup(2), resumed, epochs=3).fit(model_of(blobs), datamodule=blobs, ckpt_path=tmp_path / "one.ckpt")
    assert resumed.seen == whole.seen[3:]


def test_reported_bounds_are_unweighted(trainer_in, blobs, model_of):
    """Without steps of the optimiser the model stays the same, and so must every reported number."""
    reported = []
    for callbacks in ([], [KLWarmup(1000)]):
        trainer = trainer_in(*callbacks, epochs=1)
        trainer.fit(model_of(blobs, "optimizer.lr=1e-30"), datamodule=blobs)
        reported.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    plain, warm = reported
    assert {name for name in plain if plain[name] != warm[name]} == {"train/surrogate"}


@pytest.mark.parametrize("epochs", [0, -1, float("nan")])
def test_a_warm_up_needs_epochs(epochs):
    with pytest.raises(UserError, match="must be above 0, got"):
        KLWarmup(epochs)
