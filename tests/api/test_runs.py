"""Runs read back, used and evaluated in Python; every number against the command's."""

import json
from pathlib import Path

import pandas
import pytest
import torch
from evaluations import command, copied

import taut
from taut.api.evaluate import DEFAULT, ESTIMATORS
from taut.config.plain_yaml import read_values
from taut.evidence import AIS
from taut.training.models import VAE, MixtureOfGaussians
from taut.training.module import LatentVariableModel

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "stored_runs"
CONF = ROOT / "conf" / "evidence"


@pytest.fixture(scope="module")
def run() -> taut.Run:
    return taut.load(STORED / "vae")


def test_a_run_says_what_it_is(run):
    assert run.name == "vae k=1 seed=0 digits dynamic normal diagonal"
    assert run.folder == STORED / "vae"
    assert run.config.model.k == 1
    assert run.result["scores"]["elbo"]["kind"] == "lower"
    assert run.checkpoint["file"] == "best.ckpt"
    text, page = repr(run), run._repr_html_()
    elbo = run.result["scores"]["elbo"]
    for said in (text, page):
        assert run.name in said
        for name in ("value", "standard_error", "monte_carlo_error"):
            assert f"{elbo[name]:.3f}" in said
        assert "test split, nats per datum" in said
        assert "lower, K = 1" in said
    assert "-0.000" not in repr(taut.load(STORED / "mog")), "its gap is 0"
    assert page.count("<tr>") == 5


def test_its_model_samples_encodes_decodes_and_scores(run):
    x = run.data.rows_of("test")[:4]
    z = run.model.encode(x)
    assert z.shape == (4, 2)
    assert run.model.decode(z).shape == x.shape
    assert run.model.sample(16).shape == (16, 1, 8, 8)
    found = run.model.log_evidence(x, k=500, seed=0)
    assert (found.kind, found.k, found.value.shape) == ("lower", 500, (4,))
    assert (run.model.log_evidence(x, k=500, seed=1).value != found.value).all()
    assert run.model.log_evidence(x, estimator=AIS(steps=3)).name == "ais"


def test_the_columns_of_the_run_are_found_by_their_names():
    run = taut.load(STORED / "mog")
    rows = run.data.rows_of("test")[:5].numpy()
    frame = pandas.DataFrame(rows, columns=["eruptions", "waiting"])
    found = run.model.log_evidence(frame[["waiting", "eruptions"]])
    assert found.value.tolist() == run.model.log_evidence(rows).value.tolist()


def test_a_split_that_there_is_not_is_refused(run):
    with pytest.raises(taut.UserError, match=r"^There is no split 'validation'; "):
        run.data.rows_of("validation")


@pytest.mark.parametrize("name", ["mog", "ppca"])
def test_where_log_px_is_exact_the_model_says_so(name):
    run = taut.load(STORED / name)
    found = run.model.log_evidence(run.data.rows_of("test")[:5])
    assert (found.kind, found.monte_carlo_error) == ("exact", 0.0)
    # it is computed in the precision of the run
    assert next(run.model.module.joint.parameters()).dtype == torch.float64


def test_an_evaluation_gives_the_numbers_of_the_command(run, tmp_path):
    """To the bit: one path leads to both."""
    folder = copied(STORED / "vae", tmp_path)
    done = command("evaluate", f"run={folder}", "limit=6", "k=50", "evidence=[importance,naive,struski]", "seed=3")
    assert done.code == 0, done.err
    theirs = json.loads((folder / "evaluation" / "result.json").read_text(encoding="utf-8"))
    ours = taut.evaluate(run, evidence=["importance", "naive", "struski"], limit=6, k=50, seed=3)
    for name in ("n", "k", "split", "seed", "held_out", "warnings", "information", "curve", "gap", "data_digest"):
        assert json.loads(json.dumps(ours.result[name])) == theirs[name], name
    for name, score in theirs["evidence"].items():
        assert ours.evidence[name]["value"] == score["value"], name
        assert ours.evidence[name]["kind"] == score["kind"], name


@pytest.fixture(scope="module")
def report(run) -> taut.EvaluationReport:
    return taut.evaluate(run, evidence=["importance", "naive"], limit=5, k=50)


def test_a_report_shows_itself(report, capsys):
    text, page = repr(report), report._repr_html_()
    assert "importance  lower" in text
    assert "gap = log p(x) - ELBO" in text
    assert page.startswith("<pre")
    assert f"{report.evidence['importance']['value']:.3f}" in page
    assert capsys.readouterr().out == ""


def test_a_report_has_pictures_and_a_row_for_each_datum(report):
    assert report.figures == ["bracket", "thermodynamic", "gaps", "equal_cost"]
    assert report.figure("bracket").axes
    with pytest.raises(
        taut.UserError, match=r"There is no figure 'brackets' of this evaluation; did you mean bracket\?"
    ):
        report.figure("brackets")
    table = report.data()
    assert len(table) == 5
    assert table["importance"].mean() == pytest.approx(report.evidence["importance"]["value"], abs=1e-12)


def test_estimators_by_name_have_the_settings_of_the_command_line():
    shipped = {path.stem: read_values(path) for path in CONF.glob("*.yaml") if path.stem != "default"}
    assert shipped.keys() == ESTIMATORS.keys()
    for name, content in shipped.items():
        node = next(node for node in [content, *content.values()] if isinstance(node, dict) and "_target_" in node)
        estimator = ESTIMATORS[name](**({"k": 7} if "k" in node else {}))
        assert node.pop("_target_") == f"{type(estimator).__module__}.{type(estimator).__qualname__}"
        for key, value in node.items():
            if value is not None:
                assert getattr(estimator, key) == (7 if key == "k" else value), (name, key)
    assert list(DEFAULT) == read_values(CONF / "default.yaml")["defaults"]


REFUSED = {
    "an unknown estimator": ({"evidence": ["aiss"]}, "evidence='aiss' is not known; did you mean ais?"),
    "an unknown split": ({"split": "tests"}, "split='tests' is not known; choose train, val, test."),
    "no samples": ({"k": 0}, "k=0 must be a whole number, 1 or more."),
    "certainty": ({"confidence": 1.0}, "confidence=1.0 must lie between 0 and 1."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_evaluated_is_refused(run, name):
    settings, sentence = REFUSED[name]
    with pytest.raises(taut.UserError) as caught:
        taut.evaluate(run, **settings)
    assert str(caught.value) == sentence


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(taut.UserError) as caught:
        taut.load(tmp_path)
    assert str(caught.value) == f"{tmp_path} is not the folder of a run: its .hydra/overrides.yaml is missing."


def test_files_that_have_moved_are_named_by_their_keys():
    """This run reads none."""
    with pytest.raises(taut.UserError, match=r"data.path=x.csv: vae reads no such file or folder; leave it out\."):
        taut.load(STORED / "vae", files={"data.path": "x.csv"})


def test_a_checkpoint_gives_the_trained_module(run):
    model = VAE.load_from_checkpoint(STORED / "vae" / "checkpoints" / "best.ckpt")
    assert type(model) is VAE
    assert not model.training
    for name, value in run.model.module.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert type(LatentVariableModel.load_from_checkpoint(STORED / "mog/checkpoints/best.ckpt")) is MixtureOfGaussians


def test_a_checkpoint_without_its_run_or_of_another_model_is_refused(tmp_path):
    path = STORED / "vae" / "checkpoints" / "best.ckpt"
    with pytest.raises(taut.UserError) as caught:
        MixtureOfGaussians.load_from_checkpoint(path)
    assert str(caught.value) == f"{path} is of a VAE, not of a MixtureOfGaussians; call VAE.load_from_checkpoint."
    moved = tmp_path / "best.ckpt"
    moved.write_bytes(path.read_bytes())
    with pytest.raises(taut.UserError) as caught:
        VAE.load_from_checkpoint(moved)
    assert str(caught.value) == (
        f"{moved} is not in the checkpoints/ of a run folder, whose config says what model it is of; put it back "
        "there, or build the model yourself and hand it the state_dict."
    )
