"""Early stopping refuses what may not be selected on; progress is short where nobody watches."""

import pytest
import torch

from taut.errors import UserError
from taut.training.callbacks.checkpoints import early_stopping
from taut.training.callbacks.progress import EpochBar, Sizes, headline


@pytest.mark.parametrize("monitor", ["test/bound", "train/surrogate", "train/bound", "bound"])
def test_only_validation_scores_may_stop_a_run(monitor):
    with pytest.raises(UserError, match="use a validation score such as val/bound"):
        early_stopping(monitor=monitor)


def test_a_run_stops_when_the_bound_no_longer_rises(trainer_in, blobs, model_of):
    trainer = trainer_in(early_stopping(patience=2, min_delta=1e9), epochs=50)
    trainer.fit(model_of(blobs), datamodule=blobs)
    assert trainer.current_epoch == 3


def test_without_a_terminal_a_fit_takes_few_lines(capsys, trainer_in, blobs, model_of):
    model = model_of(blobs)
    trainer = trainer_in(Sizes(), EpochBar(lines=5), epochs=12, enable_progress_bar=True)
    trainer.fit(model, datamodule=blobs)
    trainer.test(model, datamodule=blobs, verbose=False)
    sizes, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["3/12", "6/12", "9/12", "12/12"]
    assert f"bound {trainer_bound(model):.2f}" in lines[-1]
    assert sizes.startswith("parameters: prior 0, likelihood ")
    counts = [int(word.strip(",").replace(",", "")) for word in sizes.split() if word[0].isdigit()]
    assert sum(counts) == sum(p.numel() for p in model.parameters())


def test_on_a_terminal_there_is_one_bar_for_a_fit(capsys, monkeypatch, trainer_in, blobs, model_of):
    monkeypatch.setenv("FORCE_COLOR", "1")
    trainer_in(EpochBar(), epochs=3, enable_progress_bar=True).fit(model_of(blobs), datamodule=blobs)
    _, epoch, last = capsys.readouterr().out.rpartition("epoch 3/3")
    assert epoch
    assert "bound" in last


@pytest.mark.parametrize(
    ("k", "k_eval", "k_test", "said"),
    [
        (5, 10, 20, ""),
        (5, 10, 21, "k_test=21 is rounded up to 25: two or more blocks of k=5 samples, each of which gives one bound."),
        (
            600,
            100,
            1000,
            "k_eval=100 is rounded up to 1,200 and k_test=1,000 is rounded up to 1,200: two or more blocks of k=600 "
            "samples, each of which gives one bound.",
        ),
    ],
)
def test_numbers_of_samples_that_are_rounded_up_are_told_once(k, k_eval, k_test, said, model_of, blobs):
    model = model_of(blobs, "model=iwae", f"k={k}", f"k_eval={k_eval}", f"k_test={k_test}")
    assert model.rounded_samples == said


def trainer_bound(model):
    return model.summaries["val"].scores["bound"]["value"]


def test_the_headline_says_how_far_the_gap_can_be_trusted():
    metrics = {"val/bound": torch.tensor(-24.514), "val/gap": torch.tensor(-1e-9)}
    assert headline(metrics, "exact") == "bound -24.51  gap = 0.00"
    assert headline({"val/gap": torch.tensor(2.0)}, "lower") == "gap >= 2.00"
    assert headline({}, "lower") == ""


@pytest.mark.parametrize("settings", [{"lines": 0}, {"refresh_per_second": 0}])
def test_progress_settings_are_positive(settings):
    with pytest.raises(UserError, match=r"must be above 0, got"):
        EpochBar(**settings)
