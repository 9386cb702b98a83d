import pytest
import torch
from lightning.pytorch import Callback

from taut.training import further_steps
from taut.training.callbacks.checkpoints import Kept
from taut.training.callbacks.progress import Speed
from taut.training.module import LatentVariableModel


class Watched(Callback):
    """Notes the steps that callbacks are called at, and every step's number and noise."""

    every_step = False

    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append(batch_idx)


class Curious(Watched):
    every_step = True


@pytest.fixture
def trained(trainer_in, model_of, blobs, tmp_path):
    """Weights, optimiser, counters and metrics of a run of 60 steps an epoch; ``alone`` leaves all to Lightning."""

    def train(name, *callbacks, alone=False, epochs=2, start=None, words=(), **settings):
        blobs.batch_size = 1
        model = model_of(blobs, "model=iwae", "k=2", "latent_dim=2", "network.hidden=[3]", *words)
        if alone:
            callbacks = (*callbacks, Curious())
        trainer = trainer_in(*callbacks, folder=tmp_path / name, epochs=epochs, **settings)
        trainer.fit(model, datamodule=blobs, ckpt_path=start)
        trainer.save_checkpoint(tmp_path / name / "end.ckpt")
        return torch.load(tmp_path / name / "end.ckpt", weights_only=True), trainer.callback_metrics, trainer

    return train


def same(one, other):
    """Everything in two checkpoints but the names of callbacks."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


SETTINGS = {
    "as it is": {},
    "an end within an epoch": {"max_steps": 87},
    "validation within an epoch": {"val_check_interval": 17, "epochs": 1},
    "clipped gradients of part of an epoch": {"limit_train_batches": 34, "gradient_clip_val": 0.1},
    "falling rates, by autograd": {"words": ["scheduler=cosine", "objective=stl"]},
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_run_ends_in_the_bits_of_one_whose_steps_lightning_sees(settings, trained):
    watch = Watched()
    several, several_metrics, trainer = trained("several", watch, **SETTINGS[settings])
    ordinary, metrics, _ = trained("alone", Watched(), alone=True, **SETTINGS[settings])
    assert len(watch.batches) < 0.35 * trainer.global_step
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step", "first_bound"):
        assert same(several[part], ordinary[part]), part
    assert same(several_metrics, metrics)
    assert same(several["epoch_so_far"], ordinary["epoch_so_far"]) if "epoch_so_far" in several else True


def test_what_is_kept_within_an_epoch_is_kept_at_its_step_and_gone_on_from(trained, tmp_path):
    keep = Kept("recent", every_n_train_steps=7, save_top_k=-1, filename="{step}")
    whole, *_ = trained("whole", keep, enable_checkpointing=True)
    kept = sorted(int(path.stem) for path in (tmp_path / "whole" / "checkpoints").glob("*.ckpt"))
    assert kept == sorted({*range(7, 60, 7), *range(63, 120, 7), 60, 120})
    start = tmp_path / "whole" / "checkpoints" / "84.ckpt"
    resumed, *_ = trained("resumed", Kept("recent", every_n_train_steps=7), start=start, enable_checkpointing=True)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert same(whole[part], resumed[part]), part


def test_a_callback_that_has_hooks_of_steps_is_called_at_every_one(trained):
    curious, watch = Curious(), Watched()
    trained("every", curious, watch, epochs=1)
    assert curious.batches == watch.batches == list(range(60))
    trained("some", watch, epochs=1)
    assert watch.batches[60:] == [0, 10, 20, 30, 40, 50, 59]  # 50 is a report, 59 the last of the epoch


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate_grad_batches": 2},
        {"precision": "bf16-mixed"},
        {"check_val_every_n_epoch": None, "val_check_interval": 7},
    ],
)
def test_other_trainings_are_left_to_lightning(settings, trained):
    watch = Watched()
    trained("all", watch, epochs=1, **settings)
    assert watch.batches == list(range(60))


def test_a_model_with_a_hook_of_its_own_sees_every_step(trainer_in, model_of, blobs):
    model = model_of(blobs)
    seen = []

    class Own(type(model)):
        def on_before_zero_grad(self, optimizer):
            seen.append(optimizer)

    model.__class__ = Own
    blobs.batch_size = 1
    trainer_in(epochs=1).fit(model, datamodule=blobs)
    assert len(seen) == 60


def test_all_rows_count_in_the_speed(trained):
    speed = Speed()
    rows = []

    class Last(Watched):
        def on_train_batch_end(self, *_):
            rows.append(speed._train.rows)

    trained("speed", speed, Last(), epochs=1)
    assert rows[-1] == 60


def test_another_strategy_has_no_further_steps(trainer_in, model_of, blobs):
    """As two processes: a step is of both."""
    trainer = trainer_in(epochs=1)
    model = model_of(blobs)
    trainer.fit(model, datamodule=blobs)
    assert further_steps.possible(trainer, model, LatentVariableModel)
    trainer.strategy.__class__ = type("Other", (type(trainer.strategy),), {})
    assert not further_steps.possible(trainer, model, LatentVariableModel)
