"""Lightning's limits work as its users expect, and the result says what it is of."""

import pytest
from jobs import QUIET, TINY, composed, run

from taut.commands.train import train
from taut.errors import UserError
from taut.functional import seeding

VAE = [*TINY, "latent_dim=2", "data.batch_size=200"]  # six batches of 1,078 rows, two and two of the others
MIXTURE = ["model=mog", "model.components=2", "data=faithful", *QUIET]
LAST = "nothing was validated, so that no weights were chosen: the last ones were kept and tested"
LIMITED = {
    "trainer.max_steps=1": ["training ended after 1 step, in epoch 1 of 2 (trainer.max_steps)"],
    "trainer.max_time=00:00:00:00": ["training ended after 0 steps, in epoch 1 of 2 (trainer.max_time)", LAST],
    "trainer.limit_train_batches=2 trainer.limit_val_batches=1 trainer.limit_test_batches=1": [
        "training: 2 of 6 batches (trainer.limit_train_batches)",
        "validation: 1 of 2 batches (trainer.limit_val_batches)",
        "test: 1 of 2 batches (trainer.limit_test_batches)",
    ],
    "trainer.limit_val_batches=0": ["validation: none (trainer.limit_val_batches=0)", LAST],
    "trainer.limit_test_batches=0": ["test: none (trainer.limit_test_batches=0)"],
    "trainer.overfit_batches=1": [
        "training: 1 of 6 batches (trainer.overfit_batches)",
        "validation: 1 of 2 batches (trainer.overfit_batches)",
    ],
    "trainer.enable_checkpointing=false": [
        "no checkpoint was kept (trainer.enable_checkpointing=false): the last weights were tested"
    ],
    "trainer.num_sanity_val_steps=1 trainer.accumulate_grad_batches=4 trainer.detect_anomaly=true": [],
}


@pytest.mark.parametrize("words", LIMITED)
def test_a_limited_run_ends_with_a_result_that_says_what_it_is_of(words, trainings, tmp_path):
    """Without the sentences, or where a callback asks for what the limit leaves out, it fails."""
    result = run(tmp_path, *VAE, *words.split())
    assert result["partial"] == LIMITED[words]
    assert result["n"] == (0 if "test_batches=0" in words else 200 if "test_batches=1" in words else 360)
    assert (result["validation"]["bound"] is None) == (LAST in result["partial"])
    kept = "trainer.enable_checkpointing=false" not in words
    assert (tmp_path / "checkpoints" / "best.ckpt").exists() == kept
    if "max_steps" in words:
        assert result["checkpoint"]["step"] == 1


def test_a_development_run_keeps_nothing(trainings, tmp_path, capsys):
    assert train(composed(tmp_path, *VAE, "trainer.fast_dev_run=true", "callbacks=default")) is None
    assert capsys.readouterr().out.splitlines()[-1] == (
        "fast_dev_run: training, validation and test went through; nothing was kept."
    )
    assert [path.name for path in tmp_path.iterdir() if path.name != "run.json"] == []


def test_em_on_some_of_the_batches_is_at_no_maximum_of_all(trainings, tmp_path):
    """Criteria of all rows would presume the maximum of their likelihood."""
    result = run(tmp_path, *MIXTURE, "data.batch_size=30", "trainer.limit_train_batches=2")
    assert result["converged"] is True
    assert result["criteria"] is None
    assert result["partial"] == ["training: 2 of 10 batches (trainer.limit_train_batches)"]


def test_batches_of_one_step_have_noise_of_their_own(trainings, tmp_path, monkeypatch):
    """Keyed by the step alone, all batches whose gradients are added would be drawn with the same noise."""
    counters, key = [], seeding.key

    def noted(seed, stream, *rest):
        if stream == "train":
            counters.extend(rest)
        return key(seed, stream, *rest)

    monkeypatch.setattr(seeding, "key", noted)
    run(tmp_path, *VAE, "trainer.accumulate_grad_batches=4")
    assert counters == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]


def test_a_run_that_diverged_says_so(trainings, tmp_path):
    (sentence, *_) = run(tmp_path, *VAE, "optimizer.lr=100")["warnings"]
    assert sentence.startswith("Training diverged: its bound was -28.")
    assert sentence.endswith("at the end; lower optimizer.lr, or set trainer.gradient_clip_val.")


def test_what_watches_a_validation_needs_one(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.limit_val_batches=0 leaves none; drop one of the two\."):
        train(composed(tmp_path, *VAE, "trainer.limit_val_batches=0", "callbacks=[none,early_stopping]"))
