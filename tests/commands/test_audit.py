"""``python audit.py`` end to end: what it loads, writes and prints, and what it refuses before it loads anything."""

import json
import sys

import pytest
from evaluations import command

MODEL = """
from pathlib import Path
import torch
from torch import nn
from taut.adapters.plain import Plain

Path("imported").touch()
VALUE = 5

def load():
    torch.manual_seed(0)
    encoder, decoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 6)), nn.Linear(3, 64)
    return Plain(q=lambda x: encoder(x).chunk(2, -1), decoder=decoder, likelihood="bernoulli", name="mine")

def iris():
    from sklearn.mixture import GaussianMixture
    import numpy as np
    return GaussianMixture(2, random_state=0).fit(np.random.default_rng(0).normal(size=(60, 2)))

def nothing():
    return {}
"""
FEW = ["limit=10", "k=40", "simulated=5", "threads=1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of somebody's, which leaves a file when it is imported."""
    (tmp_path / "somebodys.py").write_text(MODEL)
    (tmp_path / "my.csv").write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(40)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    return tmp_path


def test_a_model_is_loaded_and_its_table_printed_and_written(here, monkeypatch):
    """The numbers in the file are those of the table, and the reported one is held against them."""
    monkeypatch.setattr("taut.commands.audit.evaluation_figures", lambda *_: [])
    words = ["model=somebodys:load", "trust=[somebodys]", "data=digits", "reported=-30", *FEW]
    done = command("audit", *words)
    assert done.code == 0, done.err
    (folder,) = (here / "outputs" / "audits").iterdir()
    result = json.loads((folder / "audit.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"audit.json", "data.csv", "config.yaml"}
    assert len((folder / "data.csv").read_text().splitlines()) == 11
    assert f"{result['evidence']['importance']['value']:.3f}" in done.out
    assert "reported -30 lies above the upper bound" in " ".join(done.out.split())
    assert "both of these 10 data; a bound counts with twice its Monte Carlo error" in done.out
    assert result["reported"]["words"].endswith("it is no log-likelihood, unless q misses a mode")
    assert (result["data"], result["split"], result["held_out"], result["n"]) == ("digits", "test", True, 10)
    assert set(result["simulated"]["evidence"]) == {"elbo", "importance", "jackknife", "struski", "u_k"}
    assert done.out.splitlines()[-1] == str(folder)


def test_a_table_and_an_exact_model(here, monkeypatch):
    monkeypatch.setattr("taut.commands.audit.evaluation_figures", lambda *_: [])
    words = ["trust=somebodys", "data=table", "data.path=my.csv", "evidence=importance", *FEW]
    done = command("audit", "model=somebodys:iris", *words, "limit=null")
    assert done.code == 0, done.err
    assert "gap = log p(x) - ELBO = 0.000" in done.out


def test_the_config_of_an_audit_is_shown_and_nothing_is_imported(here):
    """``--cfg`` is answered by Hydra itself, which has a group of the name."""
    done = command("audit", "--cfg", "job", "model=somebodys:load", "trust=somebodys", "k=7")
    assert (done.code, done.err) == (0, "")
    assert "model:\n  load: somebodys:load\n" in done.out
    assert not (here / "imported").exists()


REFUSED = {
    "data=digits": "audit.py needs a function that gives the model: add model=<module>:<function> and "
    "trust=[<package>], as in model=mylab.vae:load trust=[mylab].",
    "model=vae data=digits": "model=vae is no function; write model=<module>:<function>, as in model=mylab.vae:load, "
    "and evaluate a run of taut by evaluate.py run=<run>.",
    "model=somebodys:load data=digits": "model=somebodys:load needs classes of somebodys; add trust=[somebodys] if you "
    "know it.",
    "model=os:getcwd data=digits": "model=os:getcwd may not be called: it is no function of a package of yours.",
    "model=somebodys:load trust=somebodys data=digits k=0": "k must be an integer >= 1, got 0.",
    "model=somebodys:load trust=somebodys data.path=my.csv": "data.path and the like go with a choice of "
    "data: add data=table or data=images.",
    "model=somebodys:load trust=somebodys data=digits reported=many": "reported must be a finite number of nats, or "
    "null, got 'many'.",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_is_refused_before_anything_is_imported(words, here):
    done = command("audit", *words.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.strip().startswith(REFUSED[words])
    assert not (here / "imported").exists()
    assert not (here / "outputs").exists()


LOADED = {
    "model=somebodys:lode": "model=somebodys:lode: somebodys has no function lode of its own; check its spelling.",
    "model=somebodys:VALUE": "model=somebodys:VALUE: somebodys has no function VALUE of its own; check its spelling.",
    "model=somebodys:Plain": "model=somebodys:Plain: somebodys has no function Plain of its own; check its spelling.",
    "model=somebodys.vae:load": "model=somebodys.vae:load: there is no module somebodys.vae; install it, or start the "
    "command where it is.",
    "model=somebodys:nothing": "A builtins.dict cannot be audited; give an object with log_joint",
    "model=somebodys:iris": "GaussianMixture brings no data along; give data=x, one row for each datum.",
    "model=somebodys:iris data=digits": "x has rows of shape [1, 8, 8], and the model was fitted to 2 columns.",
}


@pytest.mark.parametrize("words", LOADED)
def test_a_model_that_is_none_leaves_no_folder(words, here):
    done = command("audit", *words.split(), "trust=somebodys", *FEW)
    assert done.code == 2
    assert done.err.strip().startswith(LOADED[words])
    assert not (here / "outputs").exists()
