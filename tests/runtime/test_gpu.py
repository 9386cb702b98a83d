"""One GPU: recorded steps are the steps, nothing waits for the device, and scores are those of a CPU."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands.jobs import CONF, QUIET, composed, run

from taut.commands.train import train
from taut.errors import UserError
from taut.training import strategies
from taut.training.checkpoint import AtomicCheckpointIO
from taut.training.metrics import NotANumber
from taut.training.models import VAE
from taut.training.stored_run import Run

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
TINY = ["k_eval=20", "k_test=20", "network.hidden=[16]", "data.batch_size=100", *QUIET[1:]]
KINDS = {
    "vae": ["model=vae"],
    "sampled": ["model=vae", "objective.kl=sampled", "k=3"],
    "iwae": ["model=iwae", "k=5"],
    "dreg": ["model=iwae", "k=5", "objective=dreg"],
    "stl": ["model=iwae", "k=5", "objective=stl"],
    "few": ["model=iwae", "k=5", "objective.backward=2"],
    "few dreg": ["model=iwae", "k=5", "objective=dreg", "objective.backward=2"],
    "mixture": ["model=iwae", "k=5", "prior=mixture"],
    "vamp": ["model=iwae", "k=5", "prior=vamp"],
    "full": ["model=iwae", "k=5", "q=full"],
    "box": ["model=iwae", "k=5", "prior=uniform"],
    "gaussian": ["model=iwae", "k=5", "likelihood=gaussian", "data.binarisation=none"],
    "convolutions": ["model=vae", "network=conv", "network.channels=4"],
    "bf16": ["model=iwae", "k=5", "trainer.precision=bf16-mixed"],
    "clipped": ["model=vae", "trainer.gradient_clip_val=0.5"],
    "warm-up": ["model=iwae", "k=5", "callbacks=[none,warmup]", "callbacks.warmup.epochs=2"],
    "schedule": ["model=vae", "scheduler=exponential"],
    "double": ["model=vae", "trainer.precision=64-true"],
    "holes": ["model=iwae", "k=5", "q=masked", "mask=random"],
}


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").glob("recent*"))
    return AtomicCheckpointIO().load_checkpoint(newest)["state_dict"]


def _bounds(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/bound"]) for row in csv.DictReader(file)]


def _steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@gpu
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_are_the_steps(kind, tmp_path, monkeypatch):
    """Noise, learning rates, KL weights or short batches that stay those of the recording: weights drift apart."""
    monkeypatch.setattr(strategies.Recorded, "steps_per_batch", 1)
    callbacks = [] if kind == "warm-up" else QUIET[:1]
    words = [*TINY, *callbacks, *KINDS[kind], "trainer.max_epochs=3", "strategy=gpu_recorded"]
    words = [word for word in words if not (kind == "convolutions" and word.startswith("network.hidden"))]
    run(tmp_path / "graph", *words)
    run(tmp_path / "eager", *words, "trainer.strategy=auto")
    graph, eager = _weights(tmp_path / "graph"), _weights(tmp_path / "eager")
    close = {"rtol": 1e-3, "atol": 1e-4} if kind == "bf16" else {"rtol": 1e-4, "atol": 1e-5}
    for name, weight in eager.items():
        torch.testing.assert_close(graph[name], weight, **close, msg=lambda text, name=name: f"{name}: {text}")
    assert _bounds(tmp_path / "graph") == pytest.approx(_bounds(tmp_path / "eager"), rel=1e-4)


@gpu
def test_batches_handed_out_together_are_steps_of_their_own(tmp_path):
    words = ["model=vae", *TINY, "trainer.max_epochs=4", "strategy=gpu_recorded", "trainer.check_val_every_n_epoch=4"]
    result = run(tmp_path, *words)
    assert _steps(tmp_path) == [11, 22, 33, 44], "1077 rows in batches of 100"
    assert result["validation"]["bound"] > -50


@gpu
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_a_run_that_was_killed_goes_on(optimizer, tmp_path):
    """Checkpoints of a recorded run have rates that are numbers, and meters and optimisers that go on counting."""
    words = ["model=vae", *TINY, "strategy=gpu_recorded", f"optimizer={optimizer}", "trainer.check_val_every_n_epoch=1"]
    run(tmp_path / "whole", *words, "trainer.max_epochs=4")
    run(tmp_path / "part", *words, "trainer.max_epochs=2")
    state = AtomicCheckpointIO().load_checkpoint(max((tmp_path / "part" / "checkpoints").glob("recent*")))
    group = state["optimizer_states"][0]["param_groups"][0]
    assert isinstance(group["lr"], float)
    assert group["capturable"] is False
    (tmp_path / "part" / ".hydra").mkdir(exist_ok=True)
    cfg = composed(tmp_path / "part", *words, "trainer.max_epochs=4", f"resume={tmp_path / 'part'}")
    train(cfg)
    whole, part = _weights(tmp_path / "whole"), _weights(tmp_path / "part")
    for name, weight in whole.items():
        torch.testing.assert_close(part[name], weight, rtol=1e-4, atol=1e-5)


@gpu
def test_a_nan_is_named_though_nobody_looked(tmp_path):
    words = ["model=vae", *TINY, "trainer.max_epochs=30", "strategy=gpu_recorded", "optimizer.lr=1e6"]
    with pytest.raises(NotANumber, match=r"is not finite at step \d+"):
        run(tmp_path, *words)


@gpu
def test_a_run_is_scored_on_a_gpu_as_on_a_cpu(programs, tmp_path):
    """IEEE products in scores, whatever training used."""
    words = ["model=iwae", "k=5", *TINY, "trainer.max_epochs=3", "strategy=gpu_recorded", "matmul=high", "k_test=1000"]
    (tmp_path / "run").mkdir()
    done = subprocess.run(
        [sys.executable, CONF.parent / "train.py", *words, f"hydra.run.dir={tmp_path}/run"], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    for strategy in ("gpu", "cpu"):
        out = f"evaluation_{strategy}"
        order = [f"run={tmp_path}/run", f"strategy={strategy}", f"out={out}", "limit=100", "k=2000"]
        done = subprocess.run([sys.executable, CONF.parent / "evaluate.py", *order], capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        found = json.loads((tmp_path / "run" / out / "result.json").read_text())
        assert found
    with torch.no_grad():
        model, data, _ = Run.open(tmp_path / "run").load()
        x, z = data.rows_of("test")[:50], torch.randn(7, 50, *model.joint.prior.z_shape)
        there = model.joint.to("cuda").log_prob(x.cuda(), z.cuda()).cpu()
        here = model.joint.to("cpu").log_prob(x, z)
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-3)


@gpu
def test_a_sigterm_leaves_a_checkpoint_to_go_on_from(programs, tmp_path):
    words = ["model=vae", *TINY, "trainer.max_epochs=100000", "strategy=gpu_recorded", f"hydra.run.dir={tmp_path}/run"]
    process = subprocess.Popen([sys.executable, CONF.parent / "train.py", *words], stderr=subprocess.DEVNULL)
    while not list((tmp_path / "run").glob("checkpoints/recent*")):
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


def test_the_counters_of_an_optimizer_go_where_the_graph_is():
    """RMSprop has no fused form, for which torch itself would move them; on the CPU a graph could not count on."""
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.RMSprop([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    strategies.move_steps(optimizer, torch.device("meta"))
    assert optimizer.state[parameter]["step"].device.type == "meta"


def test_batches_of_several_steps_are_stepped_one_by_one(trainings, tmp_path, monkeypatch):
    """The same on a CPU, without a recording: rates and rows of a step, counts of steps, exact gradients."""
    monkeypatch.setattr(strategies, "asked_for", lambda trainer: {"strategy": strategies.Recorded("cpu")})
    np.save(tmp_path / "rows.npy", torch.randn(230, 3).numpy())
    data = ["data=table", f"data.path={tmp_path / 'rows.npy'}", "data.val_fraction=0", "data.test_fraction=0"]
    words = ["model=ppca", "objective=exact", "latent_dim=1", *data, "data.batch_size=20", "trainer.max_epochs=2"]
    run(tmp_path / "together", *words, *QUIET)
    monkeypatch.undo()
    run(tmp_path / "one", *words, *QUIET)
    together, one = _weights(tmp_path / "together"), _weights(tmp_path / "one")
    for name, weight in one.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-9, atol=1e-12)
    assert _bounds(tmp_path / "together") == pytest.approx(_bounds(tmp_path / "one"), rel=1e-12)
    assert _steps(tmp_path / "together") == [12, 24]


@gpu
def test_a_step_that_waits_for_the_device_cannot_be_recorded(tmp_path, monkeypatch):
    step = VAE.training_step
    monkeypatch.setattr(VAE, "training_step", lambda *args: step(*args) * float(step(*args).isfinite()))
    with pytest.raises(UserError, match=r"cannot be recorded as a CUDA graph \(.+\); choose strategy=gpu"):
        run(tmp_path, "model=vae", *TINY, "trainer.max_epochs=3", "strategy=gpu_recorded")
