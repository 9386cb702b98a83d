"""A run goes on by the words it is resumed with, and an epoch that was cut in two is told of as a whole."""

import copy

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from pieces import names

from taut.errors import UserError
from taut.functional import seeding
from taut.model.draws import draw
from taut.training.callbacks.checkpoints import early_stopping, recent
from taut.training.callbacks.history import History, read
from taut.training.callbacks.progress import Speed
from taut.training.checkpoint import AtomicCheckpointIO
from taut.training.restoring import refuse_unfit


class SaveAt(Callback):
    """Writes a checkpoint behind a batch, as on a signal or by ``every_n_train_steps``, and stops as a kill would."""

    def __init__(self, path, step, stop=True):
        self.path, self.step, self.stop = path, step, stop

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            if self.stop:
                raise RuntimeError("killed")


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.fixture
def fit(trainer_in, model_of, blobs, tmp_path):
    """Trains from a checkpoint, or from the start, and returns the model."""

    def fit(*words, callbacks=(), epochs=4, start=None, folder=tmp_path):
        # each fit has its own data module, as each process has
        data, model = copy.copy(blobs), None
        model = model_of(data, *words)
        keeping = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
        settings = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": keeping}
        trainer = trainer_in(*callbacks, folder=folder, epochs=epochs, **settings)
        trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=True)
        return model

    return fit


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def by_hand(model, checkpoint, blobs, lr, epochs):
    """Go on from a checkpoint with Adam at another rate, in a loop without Lightning and without our shell."""
    model.load_state_dict(checkpoint["state_dict"])
    optimizer = torch.optim.Adam(model.parameters(), lr, fused=True)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    for group in optimizer.param_groups:
        group["lr"] = lr
    loader, step = blobs.train_dataloader(), checkpoint["global_step"]
    for epoch in epochs:
        loader.set_epoch(epoch)
        for batch in loader:
            seeding.seed(seeding.key(0, "train", step), torch.device("cpu"))
            draws = draw(model.joint, model.q, batch.x, 1)
            optimizer.zero_grad()
            model.objective.surrogate(draws).backward()
            optimizer.step()
            step += 1
    return weights(model)


def test_another_rate_is_obeyed(fit, model_of, blobs, tmp_path, monkeypatch):
    """Kept as it was, or taken for the first step alone, the weights would be others."""
    # the loop beside it goes by autograd, which rounds otherwise
    monkeypatch.setattr("taut.training.module.fused_step", lambda *_: None)
    path = tmp_path / "two-step=6.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[SaveAt(path, 6)], epochs=3)
    saved = AtomicCheckpointIO().load_checkpoint(path)
    rates = Rates()
    resumed = weights(fit("optimizer.lr=0.05", callbacks=[rates], start=path))
    assert rates.seen == [0.05] * 6
    assert torch.equal(resumed, by_hand(model_of(blobs), saved, blobs, 0.05, (2, 3)))
    assert not torch.equal(resumed, weights(fit(start=path)))


@pytest.mark.parametrize("optimizer", [name for name in names("optimizer") if name != "adam"])
def test_every_optimizer_goes_on_to_the_last_bit(optimizer, fit, tmp_path):
    """A state that is not kept, or is refused as that of another optimiser, would show."""
    path, words = tmp_path / "x-step=7.ckpt", [f"optimizer={optimizer}", "optimizer.momentum=0.5"]
    words = words[: 1 if optimizer == "adamw" else 2]
    whole = weights(fit(*words))
    with pytest.raises(RuntimeError, match="killed"):
        fit(*words, callbacks=[SaveAt(path, 7)])
    assert torch.equal(weights(fit(*words, start=path)), whole)


def test_a_rate_that_a_killed_continuation_asked_for_is_still_obeyed(fit, tmp_path):
    """The words of a continuation that was killed are the run's own by then, and its checkpoint may be of before."""
    first, second = tmp_path / "a-step=2.ckpt", tmp_path / "b-step=5.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[SaveAt(first, 2)])
    with pytest.raises(RuntimeError, match="killed"):
        fit("optimizer.lr=0.05", callbacks=[SaveAt(second, 5)], start=first)
    rates = Rates()
    fit("optimizer.lr=0.05", callbacks=[rates], start=second)
    assert rates.seen == [0.05] * 7


SCHEDULES = {
    "scheduler=exponential scheduler.gamma=0.5": [0.001 * 0.5**epoch for epoch in (2, 3)],
    "scheduler=exponential scheduler.gamma=0.5 optimizer.lr=0.02": [0.02 * 0.5**epoch for epoch in (2, 3)],
    "scheduler=burda": [0.001 * 10 ** (-1 / 7)] * 2,
    "scheduler=cosine scheduler.T_max=4": [0.0005, 0.001 * (1 - 2**-0.5) / 2],
}


@pytest.mark.parametrize("words", SCHEDULES)
def test_another_schedule_is_taken_up_at_its_place(words, fit, tmp_path):
    """At epochs 2 and 3 the rates are those of a run that had this schedule from the start, by its formula."""
    path = tmp_path / "two-step=5.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[SaveAt(path, 5)])
    rates = Rates()
    fit(*words.split(), callbacks=[rates], start=path)
    rest_of_epoch_1, *seen = rates.seen
    assert seen == pytest.approx([rate for rate in SCHEDULES[words] for _ in range(3)], rel=1e-12)
    assert rest_of_epoch_1 > seen[0] or words == "scheduler=burda"


@pytest.mark.parametrize("step", [6, 7])
def test_the_same_schedule_goes_on_to_the_last_bit(step, fit, tmp_path):
    words = ("scheduler=exponential", "scheduler.gamma=0.5")
    whole, cut = Rates(), Rates()
    expected = weights(fit(*words, callbacks=[whole]))
    keep = recent(keep=1)
    with pytest.raises(RuntimeError, match="killed"):
        fit(*words, callbacks=[keep, Kill(7)] if step == 6 else [SaveAt(tmp_path / "x-step=7.ckpt", 7)])
    path = keep.best_model_path if step == 6 else tmp_path / "x-step=7.ckpt"
    assert torch.equal(weights(fit(*words, callbacks=[cut], start=path)), expected)
    assert cut.seen == whole.seen[step:]


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_an_epoch_that_was_cut_in_two_has_the_figures_of_the_whole(step, fit, tmp_path):
    """To the last bit, the sums of the first part in the checkpoint; of the second part alone they would be others."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(callbacks=[History(), Speed()], folder=whole, epochs=2)
    path = cut / "x.ckpt"
    cut.mkdir()
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[SaveAt(path, step), History(), Speed()], folder=cut, epochs=2)
    state = AtomicCheckpointIO().load_checkpoint(path)["callbacks"]
    state["History"]["seconds"] = 1000.0
    changed = AtomicCheckpointIO().load_checkpoint(path)
    changed["callbacks"] = state
    AtomicCheckpointIO().save_checkpoint(changed, path)
    fit(callbacks=[History(), Speed()], folder=cut, epochs=2, start=path)
    for name in ("train/bound", "train/surrogate", "val/bound"):
        assert [row[name] for row in read(cut / "metrics.csv")][-1] == read(whole / "metrics.csv")[-1][name]
    seconds = {row["epoch"]: row["seconds"] for row in read(cut / "metrics.csv")}
    broken = step // 3
    assert 1000 <= seconds[broken] < 1100, "those before the kill and those after"
    assert all(value < 100 for epoch, value in seconds.items() if epoch != broken)
    rows = {row["epoch"]: row["train/bound"] for row in read(cut / "metrics.csv")}
    assert rows[broken] == read(whole / "metrics.csv")[broken]["train/bound"]


def test_an_epoch_after_a_checkpoint_has_none_of_the_seconds_before_it(fit, tmp_path):
    keep = recent(keep=1)
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[History(), Speed(), keep, Kill(4)])
    state = AtomicCheckpointIO().load_checkpoint(keep.best_model_path)["callbacks"]
    assert state["History"]["seconds"] < read(tmp_path / "metrics.csv")[0]["seconds"]
    assert state["Speed"] == {"rows": 0, "seconds": 0.0}
    fit(callbacks=[History(), Speed()], start=keep.best_model_path)
    assert [row["epoch"] for row in read(tmp_path / "metrics.csv")] == [0, 1, 2, 3]
    assert all(row["seconds"] < 100 for row in read(tmp_path / "metrics.csv"))


def test_the_bound_of_an_epoch_is_the_mean_over_its_data(fit, tmp_path):
    """In double precision, whatever the batches."""
    noted = []

    class Note(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            noted.append(module.trained.sums[0].item())

    fit(callbacks=[History(), Note()], epochs=1)
    (row,) = read(tmp_path / "metrics.csv")
    assert row["train/bound"] == noted[-1] / 60


def test_patience_and_the_number_of_checkpoints_are_those_asked_for(fit, tmp_path):
    first = [early_stopping(patience=50), recent(keep=3)]
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[*first, SaveAt(tmp_path / "x.ckpt", 10)])
    stopper, keep = early_stopping(patience=2), recent(keep=1)
    fit(callbacks=[stopper, keep], start=tmp_path / "x.ckpt", epochs=5)
    assert stopper.patience == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["recent-epoch=00004-step=00000015.ckpt"]


def test_what_does_not_fit_is_refused_before_anything_is_written(fit, model_of, blobs, tmp_path):
    path = tmp_path / "x-step=4.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(callbacks=[SaveAt(path, 4)])
    with pytest.raises(UserError, match=r"trainer\.max_epochs=0 is less than the 1 epochs"):
        refuse_unfit(path, model_of(blobs), blobs, 0)
    with pytest.raises(RuntimeError, match="loading state_dict"):
        refuse_unfit(path, model_of(blobs, "latent_dim=4"), blobs, 4)
    refuse_unfit(path, model_of(blobs), blobs, None)
