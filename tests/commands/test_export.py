"""A trained model as files for others: the same weights, the same values, and every number with its kind and error."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluations import QUIET, VAE, contents, evaluated, trained
from pieces import build
from safetensors import safe_open
from safetensors.torch import load_file

from taut.commands.export import _programs, main
from taut.config import pieces
from taut.training.stored_run import Run


@pytest.fixture(autouse=True)
def _untrusting(monkeypatch):
    monkeypatch.setenv(pieces.VARIABLE, "")


@pytest.fixture(scope="module")
def run(trainings, tmp_path_factory):
    folder = trained(tmp_path_factory.mktemp("runs") / "run", *VAE, "likelihood=gaussian")
    assert evaluated(folder, "limit=4", "k=20").code == 0
    return folder


@pytest.fixture(scope="module")
def exported(run):
    assert main([f"run={run}", f"to={run.parent}/exported"]) == 0
    return run.parent / "exported"


def test_the_weights_and_the_config_are_those_of_the_run(run, exported):
    model, _, _ = Run.open(run).load()
    weights = load_file(exported / "weights.safetensors")
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    with safe_open(exported / "weights.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
    assert (exported / "config.yaml").read_bytes() == (run / ".hydra" / "config.yaml").read_bytes()
    assert not list(exported.parent.glob(".*partial*"))


@torch.no_grad()  # as they were traced: with a graph, activations take another way
@pytest.mark.parametrize("rows", [1, 5])
def test_encoder_and_decoder_give_the_values_of_the_model(rows, run, exported):
    model, data, _ = Run.open(run).load()
    x = data.rows_of("test")[:rows]
    encoder = torch.export.load(exported / "encoder.pt2").module()
    decoder = torch.export.load(exported / "decoder.pt2").module()
    mean, deviation = encoder(x)
    q = model.q(x)
    torch.testing.assert_close((mean, deviation), (q.mean, q.stddev), rtol=0, atol=0)
    p = model.joint.likelihood(mean)
    torch.testing.assert_close(decoder(mean), (p.mean, p.stddev), rtol=0, atol=0)


def test_the_card_holds_every_number_with_its_kind_and_its_error(run, exported):
    card = (exported / "README.md").read_text()
    result = json.loads((run / "result.json").read_text())
    for name in ("elbo", "log_px", "gap", "kl", "reconstruction"):
        score = result["scores"][name]
        assert f"{score['value']:.3f}" in card, name
        assert f"{score['standard_error']:.3f}" in card, name
    assert "lower bound, K = 20" in card
    evaluation = json.loads((run / "evaluation" / "result.json").read_text())
    for name, score in evaluation["evidence"].items():
        label = name.replace("elbo", "ELBO")
        assert re.search(
            rf"^ {label} +{score['kind']} .*{score['value']:.3f} .*{score['standard_error']:.3f}", card, re.M
        )
    for fact in (f"| data (SHA-256) | {result['data_digest']} |", "| prior | normal |", "encoder.pt2"):
        assert fact in card


def test_the_snippet_of_the_card_runs_as_it_stands(exported, monkeypatch):
    card = (exported / "README.md").read_text()
    assert "x has shape [n, 1, 8, 8], float32" in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(exported)
    names = {}
    exec(snippet, names)
    assert names["x_mean"].shape == (3, 1, 8, 8)
    assert names["mean"].dtype == torch.float64


def test_what_has_no_network_is_left_out_and_said(trainings, tmp_path, capsys):
    np.savetxt(tmp_path / "my.csv", np.random.default_rng(0).normal(size=(60, 3)), delimiter=",")
    table = ["data=table", f"data.path={tmp_path}/my.csv", "data.header=false"]
    folder = trained(tmp_path / "ppca", *QUIET, *table, "model=ppca", "latent_dim=1", "logger=csv", "k_test=20")
    assert main([f"run={folder}", f"to={tmp_path}/to"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "encoder.pt2 is left out: q=exact has no network.",
        f"{tmp_path}/to",
    ]
    assert "`encoder.pt2`: left out, since q=exact has no network." in (tmp_path / "to" / "README.md").read_text()
    model, _, _ = Run.open(folder).load()
    z = torch.randn(3, 1, dtype=torch.float64)
    mean, _ = torch.export.load(tmp_path / "to" / "decoder.pt2").module()(z)
    torch.testing.assert_close(mean, model.joint.likelihood(z).mean, rtol=1e-7, atol=1e-9)


def test_a_q_without_moments_is_left_out_and_said(tmp_path):
    joint, q, _ = build("latent_dim=2", "prior=uniform")
    model = torch.nn.Module()
    model.joint, model.q = joint, q
    assert _programs(model, torch.rand(2, 1, 4, 4), tmp_path) == {  # type: ignore[arg-type]
        "encoder.pt2": "q=diagonal under prior=uniform has no mean and standard deviation in closed form."
    }
    assert [path.name for path in tmp_path.iterdir()] == ["decoder.pt2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run={run}", "to={run}"], "to={run} exists; choose a folder that does not."),
        (["run={run}"], "to= is missing: taut export run=<run folder> to=<new folder>."),
        (["run={run}", "to="], "to needs a value: to=<folder>."),
        (["{run}", "to={run}/x"], "{run} is not of the form key=value; type run={run}."),
        (["run={run}", "too={run}/x"], "There is no key too of taut export; did you mean to?"),
        (["run=nowhere", "to={run}/x"], "nowhere is not the folder of a run: there is no such folder."),
        (["run={run}", "to={run}/x", "trust=[os]"], "trust=[os]: os is part of Python"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(words, sentence, run, capsys):
    before = contents(run)
    assert main([word.format(run=run) for word in words]) == 2
    said = capsys.readouterr().err
    assert sentence.format(run=run) in said
    assert len(said.splitlines()) == 1
    assert contents(run) == before


def test_the_classes_of_a_strangers_run_are_asked_for(run, tmp_path, capsys):
    theirs = tmp_path / "theirs"
    (theirs / ".hydra").mkdir(parents=True)
    for name in ("overrides", "config", "hydra"):
        text = (run / ".hydra" / f"{name}.yaml").read_text()
        (theirs / ".hydra" / f"{name}.yaml").write_text(text.replace("taut.model.prior.normal.Normal", "mylab.Mine"))
    assert main([f"run={theirs}", f"to={tmp_path}/to"]) == 2
    assert capsys.readouterr().err == "The run theirs needs classes of mylab; add trust=[mylab] if you know it.\n"


def test_the_page_of_commands_says_how(exported):
    text = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^taut export (.*?)  +#", text, re.MULTILINE)
    assert [word.partition("=")[0] for word in re.sub("<.*?>", "x", line).split()] == ["run", "to"]
