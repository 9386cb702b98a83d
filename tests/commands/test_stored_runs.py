"""Runs made before the package was divided into folders: their configs name classes where they no longer are."""

import json
from pathlib import Path

import pytest
from evaluations import command, copied
from omegaconf import OmegaConf

from taut.config.aliases import MOVED, current_target, current_targets, current_word
from taut.config.instantiate import check_targets_resolved
from taut.config.run_folder import FORMAT, choice_of, write_format

pytestmark = pytest.mark.usefixtures("trainings")

STORED = Path(__file__).resolve().parents[1] / "stored_runs"
RUNS = sorted(path.name for path in STORED.iterdir())


def _result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RUNS)
def test_a_stored_run_is_evaluated(name, tmp_path):
    run = copied(STORED / name, tmp_path)
    done = command("evaluate", f"run={run}", "limit=20", "k=100", "threads=1")
    assert done.code == 0, done.err
    found = _result(run / "evaluation")
    assert found["n"] == 20
    if name == "vae":  # evaluated by the version that made it, with the same words: single precision of other machines
        before = _result(STORED / name / "evaluation")
        for estimator, score in before["evidence"].items():
            value = found["evidence"][estimator]["value"]
            if estimator == "struski":  # nearer, since each block of samples is held against all others
                assert found["evidence"]["importance"]["value"] < value < score["value"]
            else:
                assert value == pytest.approx(score["value"], abs=1e-4), estimator


def test_a_stored_run_is_completed(tmp_path):
    run = copied(STORED / "vae", tmp_path)
    done = command("complete", f"run={run}", "mask=top_half", "limit=5", "k=100", "threads=1")
    assert done.code == 0, done.err
    before, found = (_result(place / "completion_top_half") for place in (STORED / "vae", run))
    assert found["observed"]["evidence"].keys() > before["observed"]["evidence"].keys()  # more are asked today
    for estimator, score in before["observed"]["evidence"].items():
        assert found["observed"]["evidence"][estimator]["value"] == pytest.approx(score["value"], abs=1e-4), estimator


@pytest.mark.parametrize("name", ["iwae", "vae"])
def test_a_stored_run_goes_on(name, tmp_path):
    run = copied(STORED / name, tmp_path)
    done = command("train", f"resume={run}", "trainer.max_epochs=3", "threads=1")
    assert done.code == 0, done.err
    assert _result(run)["epochs"] == 3


def test_stored_runs_are_reported_under_the_names_of_their_choices(tmp_path):
    from taut.report.read.runs import read_run

    for name in RUNS:
        run = copied(STORED / name, tmp_path)
        (run / "result.json").unlink()  # nothing but the config says what the run is made of
        about = read_run(run).about
        assert about["model"] == name
        assert about["data"] == {"vae": "digits", "iwae": "digits", "mog": "faithful", "ppca": "faithful"}[name]


def test_every_alias_leads_to_what_a_config_may_build():
    old = {
        "taut.prior.vamp.Vamp": "taut.model.prior.vamp.Vamp",
        "taut.model.mog.MixtureOfGaussians": "taut.training.models.MixtureOfGaussians",
        "taut.mask.top_half.TopHalf": "taut.data.mask.regions.TopHalf",
        "taut.callbacks.rng.RandomState": "taut.training.callbacks.checkpoints.RandomState",
        "taut.callbacks.history.History": "taut.training.callbacks.history.History",
        "taut.loggers.csv_logger": "taut.training.loggers.csv_logger",
        "taut.data.digits.Digits": "taut.data.digits.Digits",
        "torch.optim.Adam": "torch.optim.Adam",
    }
    assert {name: current_target(name) for name in old} == old
    assert {current_target(name) for name in old.values()} == set(old.values()), "names of today stay"
    for name in RUNS:
        config = OmegaConf.load(STORED / name / ".hydra" / "config.yaml")
        check_targets_resolved(OmegaConf.create(current_targets(OmegaConf.to_container(config))))


def test_an_alias_never_leads_out_of_the_package():
    assert all(new.startswith("taut.") for new in MOVED.values())
    assert current_target("taut.prior.base.os.system") == "taut.model.prior.base.os.system"
    assert current_target("os.system") == "os.system"
    assert current_word("prior._target_=taut.prior.normal.Normal") == "prior._target_=taut.model.prior.normal.Normal"
    assert current_word("k=5") == "k=5"


def test_the_word_of_a_choice_is_that_of_its_yaml():
    assert choice_of("taut.training.models.MixtureOfGaussians") == "mog"
    assert choice_of("taut.training.models.PPCA") == "ppca"
    assert choice_of("taut.data.mask.regions.BottomHalf") == "bottom_half"
    assert choice_of("taut.data.fashion_mnist.FashionMNIST") == "fashion_mnist"


def test_runs_and_results_carry_their_format_and_a_newer_one_is_refused(tmp_path):
    run = copied(STORED / "vae", tmp_path)
    assert command("train", f"resume={run}", "trainer.max_epochs=3", "threads=1").code == 0
    assert not (run / "run.json").exists(), "a run that goes on keeps the format it was started in"
    assert command("evaluate", f"run={run}", "limit=3", "k=10", "threads=1").code == 0
    assert _result(run)["format"] == _result(run / "evaluation")["format"] == FORMAT
    write_format(run)
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["format"] == FORMAT
    (run / "run.json").write_text(json.dumps({"format": FORMAT + 1}), encoding="utf-8")
    for name, words in (("evaluate", f"run={run}"), ("complete", f"run={run}"), ("train", f"resume={run}")):
        done = command(name, words)
        assert done.code == 2
        assert f"reads formats up to {FORMAT}; use the version that wrote it" in done.err
