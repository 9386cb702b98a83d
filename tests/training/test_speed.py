"""Throughput counts the time of its own stage only."""

import time

import pytest
from lightning.pytorch import Callback

from taut.training.callbacks.progress import Speed

NAP = 0.1


class Slow(Callback):
    """Takes a nap in every training batch, every validation batch and whenever validation has ended."""

    def on_train_batch_start(self, *_):
        time.sleep(NAP)

    def on_validation_batch_start(self, *_):
        time.sleep(3 * NAP)

    def on_validation_end(self, *_):
        time.sleep(0.4)


def test_training_speed_excludes_validation(trainer_in, blobs, model_of):
    trainer = trainer_in(Speed(), Slow(), epochs=1)
    trainer.fit(model_of(blobs), datamodule=blobs)
    training = 60 / trainer.callback_metrics["speed/rows_per_second"].item()
    validation = 20 / trainer.callback_metrics["speed/val_rows_per_second"].item()
    assert 3 * NAP <= training < 3 * NAP + 3 * NAP + 0.4
    assert 3 * NAP <= validation < 3 * NAP + 0.4


def test_a_mid_epoch_validation_pauses_the_clock(trainer_in, blobs, model_of):
    trainer = trainer_in(Speed(), Slow(), epochs=1, val_check_interval=1)
    trainer.fit(model_of(blobs), datamodule=blobs)
    seconds = 60 / trainer.callback_metrics["speed/rows_per_second"].item()
    assert 2 * NAP <= seconds < 3 * (3 * NAP + 0.4)  # what the validations take


def test_no_speed_without_time():
    from taut.training.callbacks.progress import _Clock

    assert _Clock().rate == pytest.approx(0)
