"""A new run from the weights of another, and a measurement that names a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from evaluations import VAE, command, trained

from taut.training.checkpoint import AtomicCheckpointIO, seal
from taut.training.stored_run import Run

STILL = ["optimizer=sgd", "optimizer.lr=1e-30", "trainer.limit_train_batches=1"]
"""A training that moves nothing."""


@pytest.fixture(scope="module")
def run(trainings, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("weights") / "first", *VAE, "trainer.max_epochs=2")


def weights(path):
    return AtomicCheckpointIO().load_checkpoint(path)["state_dict"]


def test_a_run_starts_from_the_weights_and_from_nothing_else(run, trainings, command_in_process):
    """With the optimiser or the epoch of the other run it would be its continuation."""
    for place, source in {"of a run": run, "of a file": run / "checkpoints" / "best.ckpt"}.items():
        shutil.rmtree("second", ignore_errors=True)
        done = command("train", f"ckpt_path={source}", "hydra.run.dir=second", *VAE, *STILL, "model=iwae", "k=2")
        assert done.code == 0, (place, done.err)
        before, after = weights(run / "checkpoints" / "best.ckpt"), weights(Path("second/checkpoints/best.ckpt"))
        assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(("joint.", "q.")))
        result = json.loads(Path("second/result.json").read_text())
        assert (result["epochs"], result["checkpoint"]["step"]) == (1, 1)
        assert f"training began with the weights of {run}/checkpoints/best.ckpt (ckpt_path)" in result["partial"]
    # a run that goes on has weights of its own, and still says so
    shutil.move(run, run.with_name("gone"))
    try:
        done = command("train", "resume=second", "trainer.max_epochs=2")
        assert done.code == 0, done.err
        again = json.loads(Path("second/result.json").read_text())
        assert (again["epochs"], again["partial"][-1]) == (2, result["partial"][-1])
    finally:
        shutil.move(run.with_name("gone"), run)


def test_other_data_are_said(run, trainings, command_in_process):
    """The rows that the first weights were trained on may be test rows now."""
    done = command("train", f"ckpt_path={run}", "data.split_seed=1", "hydra.run.dir=other", *VAE, *STILL)
    assert done.code == 0, done.err
    said = json.loads(Path("other/result.json").read_text())["partial"][-1]
    assert said.endswith("which had other data: any split here may hold rows that they were trained on (ckpt_path)")


REFUSED = {
    "ckpt_path=none_such": "ckpt_path=none_such does not exist; name the folder of a run",
    "ckpt_path=.": "ckpt_path=. is not the folder of a run",
    "ckpt_path={run}/metrics.csv": "metrics.csv is damaged, or another program or version wrote it",
    "ckpt_path={run} latent_dim=4": "weights are of another model (joint.likelihood.decoder",
    "ckpt_path={run} prior=mixture": "is absent there",
    "ckpt_path=strange.ckpt": "ckpt_path=strange.ckpt is not a checkpoint of a training run",
    "ckpt_path=nan.ckpt": "holds weights that are not finite",
    "resume={run} ckpt_path={run}": "would make it another run: its ckpt_path is None",
    "ckpt_path=": "a text, or null",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_started_from_is_refused(words, run, trainings, command_in_process):
    """Each in one sentence, with nothing written."""
    state = weights(run / "checkpoints" / "best.ckpt")
    for name, content in {
        "strange": {"a": 1},
        "nan": {"state_dict": {k: v * torch.nan for k, v in state.items()}},
    }.items():
        torch.save(content, f"{name}.ckpt")
        Path(f"{name}.ckpt").write_bytes(seal(Path(f"{name}.ckpt").read_bytes()))
    there = {str(path) for path in Path().iterdir()}
    asked = [word.format(run=run) for word in words.split()]
    own = (
        [] if words.startswith("resume") else [word for word in VAE if not words.partition(" ")[2].startswith(word[:6])]
    )
    done = command("train", *([] if words.startswith("resume") else ["hydra.run.dir=refused"]), *own, *asked)
    assert (done.code, {str(path) for path in Path().iterdir()}) == (2, there)
    assert REFUSED[words] in done.err
    assert done.err.strip().count("\n") == 0


def test_a_measurement_of_a_checkpoint(run, trainings, command_in_process):
    """The best weights would be taken whatever was named."""
    newest = max((run / "checkpoints").glob("recent*"))
    for place, file in {run: "best.ckpt", newest: newest.name}.items():
        done = command("evaluate", f"ckpt_path={place}", "k=8", "limit=4", "threads=1", "evidence=importance")
        assert done.code == 0, done.err
        assert json.loads((run / "evaluation" / "result.json").read_text())["checkpoint"]["file"] == file
    both = command("evaluate", f"ckpt_path={run}", f"run={run}")
    assert (both.code, both.err.strip().endswith("both name a run; leave one of them out.")) == (2, True)
    assert command("evaluate", "ckpt_path=nope").err.startswith("ckpt_path=nope does not exist")


def test_a_run_of_before_has_no_such_keys(run, trainings, tmp_path):
    """Required, they would make every older run unreadable."""
    old = Path(shutil.copytree(run, tmp_path / "old"))
    config = old / ".hydra" / "config.yaml"
    kept = [line for line in config.read_text().splitlines() if not line.startswith(("ckpt_path", "lr_find"))]
    config.write_text("\n".join(kept) + "\n")
    (old / "run.json").write_text('{"format": 2}')
    assert Run.open(old).checkpoint.name == "best.ckpt"
    done = command("train", f"resume={old}", "trainer.max_epochs=3")
    assert done.code == 0, done.err
