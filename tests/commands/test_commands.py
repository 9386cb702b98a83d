"""The commands users type, tiny, in this process: each ends with a table, a result and a complete run folder."""

import csv

import numpy as np
import pytest
from jobs import TINY, composed, run
from pieces import EXPERIMENTS, names

COMMANDS = {
    "default": [],
    "iwae": ["model=iwae", "k=3"],
    "vae with several draws": ["model=vae", "k=3"],
    "clusters": ["model=mog", "model.components=2", "data=faithful"],
    "amortised clusters": ["model=mog", "model.components=4", "q=categorical", "objective=iwae", "k=4"],
    "clusters by exact gradient": ["model=mog", "model.components=3", "objective=exact", "data=synthetic"],
    "stepwise clusters": ["model=mog", "model.components=3", "objective.minibatch=true", "data.batch_size=100"],
    "mixture of Bernoullis": [
        *["model=mog", "model.components=4", "likelihood=bernoulli", "data.binarisation=threshold"],
        *["objective=exact", "network.hidden=[]"],
    ],
    "vamp and full": ["model=iwae", "k=3", "prior=vamp", "prior.components=5", "q=full"],
    "mixture prior": ["model=vae", "prior=mixture", "prior.components=4"],
    "box prior": ["model=iwae", "k=3", "prior=uniform"],
    "stl": ["model=iwae", "k=1", "objective=stl"],
    "dreg": ["model=iwae", "k=3", "objective=dreg"],
    "gaussian pixels": ["likelihood=gaussian"],
    "one sigma": ["likelihood=gaussian", "likelihood.shared=true"],
    "ppca": ["model=ppca", "latent_dim=3"],
    "fa": ["model=fa", "latent_dim=3"],
    "ppca with a mixture prior": ["model=ppca", "latent_dim=2", "prior=mixture", "objective=exact"],
    "convolutions": ["network=conv", "network.channels=4"],
    "naive q": ["model=iwae", "k=4", "q=prior"],
    "uniform q": ["model=iwae", "k=4", "q=uniform"],
}


@pytest.mark.parametrize("overrides", COMMANDS.values(), ids=COMMANDS)
def test_command_ends_with_ordered_scores(trainings, overrides, tmp_path, capsys):
    tiny = [word for word in TINY if not (word.startswith("network") and "network" in " ".join(overrides))]
    result = run(tmp_path, *tiny, *overrides)
    scores = result["scores"]
    assert result["status"] == "finished"
    assert scores["elbo"]["value"] <= scores["bound"]["value"] + 1e-9
    assert scores["gap"]["value"] == pytest.approx(scores["log_px"]["value"] - scores["elbo"]["value"])
    assert scores["elbo"]["value"] == pytest.approx(scores["reconstruction"]["value"] - scores["kl"]["value"])
    exact = any(f"model={name}" in overrides for name in ("mog", "ppca", "fa"))
    assert scores["log_px"]["kind"] == ("exact" if exact else "lower")
    printed = capsys.readouterr().out
    for word in ("ELBO", "log p(x)", "gap", "KL", "reconstruction", "active units", "ESS", "test split"):
        assert word in printed


def test_run_folder_is_complete(programs, trainings, tmp_path):
    overrides = [word for word in TINY if not word.startswith(("callbacks", "logger", "trainer.enable"))]
    result = run(tmp_path, *overrides)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "checkpoints",
        "figures",
        "metrics.csv",
        "result.json",
        "wandb",
    }
    assert {"bound_versus_k_test.png", "images_test.png", "history.png"} <= {
        p.name for p in (tmp_path / "figures").iterdir()
    }
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert len(rows) == 2
    for name in ("elbo", "bound", "log_px", "gap", "kl", "reconstruction", "ess", "active_units"):
        assert np.isfinite(float(rows[-1][f"val/{name}"]))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert result["data_digest"]
    assert result["versions"]["torch"]


def test_same_command_gives_the_same_bits(trainings, tmp_path):
    first = run(tmp_path / "a", *TINY, "model=iwae", "k=3")
    second = run(tmp_path / "b", *TINY, "model=iwae", "k=3")
    assert first["scores"] == second["scores"]
    other = run(tmp_path / "c", *TINY, "model=iwae", "k=3", "seed=1")
    assert other["scores"] != first["scores"]


def test_own_numbers(trainings, tmp_path):
    path = tmp_path / "my.csv"
    rows = np.random.default_rng(0).normal(size=(80, 2))
    path.write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows))
    result = run(tmp_path / "run", *TINY, "data=table", f"data.path={path}", "model=mog", "model.components=2")
    assert result["n"] == 8


@pytest.mark.parametrize("name", [name for name in names("experiment") if EXPERIMENTS.get(name) in (None, "complete")])
def test_every_experiment_composes_with_what_it_promises(name, tmp_path):
    cfg = composed(tmp_path, f"experiment={name}")
    assert cfg.trainer.max_epochs > 0
    if name.startswith("burda"):
        assert (cfg.trainer.max_epochs, cfg.latent_dim, cfg.data.batch_size, cfg.k_test) == (3280, 50, 20, 5000)
        assert cfg.k == {"burda_vae": 1, "burda_iwae5": 5, "burda_iwae": 50}[name]
