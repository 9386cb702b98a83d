"""Fully sharded training, on the CPU and over gloo, is data-parallel training bit for bit."""

import json

import pytest
import torch
from commands.jobs import QUIET, composed
from runtime.several_processes import in_processes

from taut.commands.train import train
from taut.training.checkpoint import newest_good

SMALL = [*QUIET, "k_eval=5", "k_test=5", "network.hidden=[8]", "latent_dim=3", "data.batch_size=211"]
PARTS = ["state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"]
TWO = ["trainer.accelerator=cpu", "trainer.devices=2"]
# a prior that looks at q, and gradients for which q's parameters are held constant: FSDP moves both under the hood
WORDS = {
    "iwae": ["model=iwae", "k=4", "callbacks=[none,pictures,summary]"],
    "dreg": ["model=iwae", "k=4", "objective=dreg", "prior=vamp"],
    "stl": ["model=iwae", "k=4", "objective=stl", "q=full"],
    "table": ["data=faithful", "model=vae", "likelihood=gaussian", "data.batch_size=64"],
}


def _run(folder, *words):
    def work():
        train(composed(folder, *SMALL, *TWO, *words))

    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    in_processes(2, work, folder / "ranks")
    path = newest_good(folder / "checkpoints")
    checkpoint = torch.load(path)
    return (
        path.name,
        {part: checkpoint[part] for part in PARTS},
        json.loads((folder / "result.json").read_text())["scores"],
    )


def _same(one, two):
    """Name and content of the newest checkpoint, and the scores, bit for bit."""
    assert (one[0], one[2]) == (two[0], two[2])
    assert _flat(one[1]) == _flat(two[1])


def _flat(value, key=""):
    """Everything by its place."""
    if isinstance(value, dict):
        return {place: leaf for name, part in value.items() for place, leaf in _flat(part, f"{key}/{name}").items()}
    if isinstance(value, list):
        return {place: leaf for i, part in enumerate(value) for place, leaf in _flat(part, f"{key}/{i}").items()}
    if isinstance(value, torch.Tensor):
        return {key: value.numpy().tobytes()}
    return {key: value}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_shards_train_as_whole_models_do(trainings, words, tmp_path):
    whole = _run(tmp_path / "ddp", "strategy=ddp_cpu", "trainer.max_epochs=2", *words)
    if words == WORDS["dreg"]:
        _run(tmp_path / "fsdp", "strategy=fsdp", "trainer.max_epochs=1", *words)
        words = [*words, "resume=it"]
    _same(_run(tmp_path / "fsdp", "strategy=fsdp", "trainer.max_epochs=2", *words), whole)
    if words == WORDS["iwae"]:
        pictures = [sorted(path.name for path in (tmp_path / name / "figures").iterdir()) for name in ("ddp", "fsdp")]
        assert pictures[0] == pictures[1] != []
