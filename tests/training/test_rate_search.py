"""The search of a learning rate leaves the run as if the rate had been typed."""

import json
from pathlib import Path

import pytest
import torch
from evaluations import VAE, command

from taut.report.read.runs import read_run
from taut.training import rate_search
from taut.training.checkpoint import AtomicCheckpointIO

pytestmark = pytest.mark.usefixtures("command_in_process")


def state(folder):
    checkpoint = AtomicCheckpointIO().load_checkpoint(max(Path(folder, "checkpoints").glob("recent*")))
    generators = checkpoint["callbacks"]["RandomState"]
    return checkpoint["state_dict"], checkpoint["optimizer_states"][0]["state"], generators


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(part, other[name]) for name, part in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_run_is_the_same_to_the_bit_as_with_the_rate_that_was_found(trainings):
    """A generator, a batch order or a weight that the search has moved would show in the last bit."""
    done = command("train", "lr_find=true", "hydra.run.dir=searched", *VAE)
    assert done.code == 0, done.err
    (said,) = [line for line in done.out.splitlines() if line.startswith("lr_find: ")]
    rate = said.split("optimizer.lr=")[1].split(",")[0]
    assert said.startswith(f"lr_find: optimizer.lr={rate}, a tenth of the rate at which the bound is highest in ")
    assert Path(said.rpartition(": ")[2]).read_bytes().startswith(b"\x89PNG")
    assert 1e-5 < float(rate) < 0.1
    typed = command("train", f"optimizer.lr={rate}", "hydra.run.dir=typed", *VAE)
    assert typed.code == 0, typed.err
    assert all(map(same, state("searched"), state("typed")))
    results = [json.loads(Path(folder, "result.json").read_text())["scores"] for folder in ("searched", "typed")]
    assert results[0] == results[1]

    # going on, the rate is that of the run: a search would find another one from the trained weights
    done = command("train", "resume=searched", "trainer.max_epochs=2")
    assert (done.code, "lr_find:" in done.out) == (0, False), done.err
    newest = AtomicCheckpointIO().load_checkpoint(max(Path("searched/checkpoints").glob("recent*")))
    assert newest["optimizer_states"][0]["param_groups"][0]["lr"] == float(rate)
    assert read_run(Path("searched")).config["optimizer.lr"] == rate
    again = command("train", "resume=searched", "lr_find=true", "trainer.max_epochs=3")
    assert again.err.startswith("resume: lr_find=true would make it another run: its lr_find is False")


REFUSED = {
    "model=mog data=faithful": "objective=em makes no steps by gradients and has no rate",
    "optimizer.lr=0.1": "optimizer.lr=0.1 fixes the rate that lr_find=true looks for; leave one of the two out.",
    "strategy=ddp_cpu": "searches in one process; find the rate with strategy=auto",
    "debug=fdr": "trainer.fast_dev_run a few; leave one of the two out.",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_rate_to_find_is_refused(words):
    done = command("train", "lr_find=true", *words.split())
    assert (done.code, list(Path().iterdir())) == (2, [])
    assert REFUSED[words] in done.err


def test_a_search_that_finds_nothing_ends_the_command_without_a_trace(trainings, monkeypatch):
    monkeypatch.setattr(rate_search, "LOWEST", 0.9)  # which no training survives
    done = command("train", "lr_find=true", *VAE)
    assert (done.code, list(Path().iterdir())) == (2, [])
    assert done.err == "lr_find=true found no rate at which the bound rises; set optimizer.lr yourself.\n"
