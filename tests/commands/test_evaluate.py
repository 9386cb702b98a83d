"""``python evaluate.py`` end to end: what it writes and prints, and that its numbers are those of the run."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from evaluations import ROOT, TINY, VAE, command, contents, copied, evaluated, trained
from omegaconf import OmegaConf
from torch import distributed

from taut.commands import evaluate
from taut.report import figures
from taut.runtime.processes import Processes
from taut.training.loggers.records import flat

FEW = ["gap.steps=8", "gap.limit=5", "limit=6", "k=20"]
ANNEALED = [f"evidence.{name}.{key}" for name in ("ais", "bdmc") for key in ("steps=3", "chains=3", "leapfrog=2")]


@pytest.fixture(scope="module")
def runs(trainings, tmp_path_factory):
    """A few tiny runs, each trained once when first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    commands = {
        "vae": VAE,
        "threshold": [*VAE, "data.binarisation=threshold"],
        "again": [*VAE, "optimizer.lr=0.01"],
        "tracked": [*VAE, "logger=wandb"],
        "mog": [*TINY, "logger=csv", "model=mog", "model.components=3", "data=synthetic", "data.n=100"],
        "bits": [*TINY, "logger=csv", "prior=bernoulli", "q=bernoulli", "objective=vimco", "k=3", "latent_dim=4"],
        "ppca": [
            *[*TINY, "logger=csv", "model=ppca", "latent_dim=2", "q=diagonal", "objective=elbo", "network.hidden=[8]"],
            *["data=synthetic", "data.kind=linear_gaussian", "data.n=100", "data.dim=4", "data.latent=2"],
        ],
    }

    def run(name: str) -> Path:
        if name not in made:
            made[name] = trained(folder / name, *commands[name])
        return made[name]

    return run


@pytest.fixture
def unillustrated(monkeypatch):
    """Evaluations that are not asked for pictures take half the time."""
    monkeypatch.setattr("taut.commands.evaluate.evaluation_figures", lambda *_: [])


@pytest.fixture
def copy(runs, tmp_path):
    """A run of one's own."""
    return lambda name: copied(runs(name), tmp_path)


@pytest.fixture(scope="module")
def default(runs, tmp_path_factory):
    """The evaluation of all test rows at the K of the run's own table."""
    run = copied(runs("vae"), tmp_path_factory.mktemp("default"))
    before = contents(run)
    done = evaluated(run, "limit=null", "k=20")
    assert done.code == 0, done.err
    return SimpleNamespace(run=run, before=before, said=done.out + done.err, **_read(run / "evaluation"))


def _read(folder: Path) -> dict:
    rows = list(csv.DictReader((folder / "data.csv").open()))
    table = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    return {"result": json.loads((folder / "result.json").read_text()), "table": table, "folder": folder}


def read(run: Path, out: str = "evaluation") -> SimpleNamespace:
    return SimpleNamespace(**_read(run / out))


def created(run: Path) -> list[str]:
    """Hidden files and folders that an evaluation forgot."""
    return [path.name for path in run.iterdir() if path.name.startswith(".") and path.name != ".hydra"]


def test_a_table_is_printed(default):
    for word in ("ELBO", "importance", "jackknife", "struski", "test split", "360 data", "gap = log p(x) - ELBO in ["):
        assert word in default.said
    assert str(default.folder) in default.said
    for name in ("elbo", "importance", "struski"):
        assert f"{default.result['evidence'][name]['value']:.3f}" in default.said


def test_the_folder_holds_numbers_config_and_pictures(default):
    assert {path.name for path in default.folder.iterdir()} == {"config.yaml", "data.csv", "figures", "result.json"}
    assert {path.name for path in (default.folder / "figures").iterdir()} == {
        "bracket.png",
        "gaps.png",
        "thermodynamic.png",
    }
    for path in (default.folder / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    cfg = OmegaConf.load(default.folder / "config.yaml")
    assert (cfg.k, cfg.limit, cfg.split, cfg.evidence.importance.k) == (20, None, "test", 20)


def test_nothing_else_in_the_run_changes(default):
    after = contents(default.run)
    assert {path for path in after if path not in default.before} == {
        path for path in after if Path(path) == default.folder or default.folder in Path(path).parents
    }
    assert all(after[path] == content for path, content in default.before.items())


def test_the_numbers_are_those_of_the_run_itself(default):
    own = json.loads((default.run / "result.json").read_text())
    assert own["k_test"] == default.result["k"] == 20
    assert own["n"] == default.result["n"] == len(default.table["row"]) == 360
    for ours, theirs in {"elbo": "elbo", "importance": "log_px"}.items():
        for part in ("value", "standard_error"):
            found, expected = default.result["evidence"][ours][part], own["scores"][theirs][part]
            assert found == pytest.approx(expected, rel=1e-6), "float32 runs score in other batches"
    for name in ("name", "model", "data", "prior", "q", "binarisation", "data_digest"):
        assert default.result[name] == own[name]


def test_every_row_is_there_once_and_in_order(default):
    np.testing.assert_array_equal(default.table["row"], np.arange(360))


def test_the_table_of_data_adds_up_to_the_result(default):
    scores, gap, n = default.result["evidence"], default.result["gap"], default.result["n"]
    assert set(scores) == {"elbo", "importance", "jackknife", "struski"}
    for name, score in scores.items():
        column = default.table[name]
        assert score["value"] == pytest.approx(column.mean(), rel=1e-12)
        assert score["standard_error"] == pytest.approx(column.std(ddof=1) / n**0.5, rel=1e-12)
        noise = math.sqrt((default.table[f"{name}_error"] ** 2).sum()) / n
        assert score["monte_carlo_error"] == pytest.approx(noise, rel=1e-12)
    assert gap["low"]["value"] == pytest.approx(default.table["gap_low"].mean(), rel=1e-12)
    assert gap["high"]["value"] == pytest.approx(default.table["gap_high"].mean(), rel=1e-12)
    low, high = (default.table[name] - default.table["elbo"] for name in ("importance", "struski"))
    np.testing.assert_allclose(default.table["gap_low"], low, rtol=1e-12)
    np.testing.assert_allclose(default.table["gap_high"], high, rtol=1e-12)
    assert scores["elbo"]["value"] < scores["importance"]["value"] < scores["struski"]["value"]


def test_the_curve_ends_at_the_value(default):
    curve = default.result["curve"]["importance"]
    assert curve["k"][0] == 1
    assert curve["k"][-1] == 20
    assert curve["value"][0] == pytest.approx(default.result["evidence"]["elbo"]["value"], rel=1e-9)
    assert curve["value"][-1] == pytest.approx(default.result["evidence"]["importance"]["value"], rel=1e-12)
    thermodynamic = default.result["thermodynamic"]
    assert thermodynamic["value"][0] == pytest.approx(default.result["evidence"]["elbo"]["value"], rel=1e-9)
    assert np.all(np.diff(thermodynamic["value"]) > 0)


def test_the_kl_is_taken_apart_over_the_data_scored(default):
    """As the table at the end of the run has it: KL by the same q and prior, units by the same rule."""
    told, own = default.result["information"], json.loads((default.run / "result.json").read_text())["scores"]
    assert told["n"] == 360
    parts = told["mutual_information"]["value"] + told["marginal_kl"]["value"]
    assert told["kl"]["value"] == pytest.approx(parts, abs=1e-12)
    error = 6 * math.hypot(told["kl"]["monte_carlo_error"], own["kl"]["monte_carlo_error"])
    assert told["kl"]["value"] == pytest.approx(own["kl"]["value"], abs=error)
    by_dimension = [one["value"] for one in told["kl_by_dimension"]]
    assert sum(by_dimension) == pytest.approx(told["kl"]["value"], abs=6 * told["kl"]["monte_carlo_error"])
    assert by_dimension == sorted(by_dimension, reverse=True)
    assert (told["units"], told["active_units"]) == (3, own["active_units"]["value"])
    for words in (
        "= I(x; z) + KL(q(z) || p(z)) =",
        f"I(x; z) = {told['mutual_information']['value']:.3f}",
        "KL by dim",
    ):
        assert words in default.said


def test_one_certificate_is_printed(default):
    certificate = default.result["certificate"]
    assert (certificate["confidence"], certificate["estimators"]) == (0.95, ["importance"])
    value = default.table["importance"].mean() + math.log(0.05) / 360
    assert certificate["value"] == pytest.approx(value, rel=1e-12)
    assert default.result["upper_certificate"] is None
    assert default.said.count("certified:") == 1


@pytest.mark.usefixtures("unillustrated")
def test_a_tolerance_is_reached_and_told(copy):
    """The bracket stands beside the estimators, in the table of every datum, and in a paragraph of its own."""
    run = copy("vae")
    done = evaluated(run, "limit=12", "k=200", "evidence=importance", "tolerance=0.1")
    assert done.code == 0, done.err
    found = read(run)
    told = found.result["tolerance"]
    assert told["reached"]
    assert told["high"] - told["low"] == pytest.approx(2 * told["half_width"])
    assert told["half_width"] <= 0.1
    low, high = (found.result["evidence"][f"tolerance_{end}"] for end in ("lower", "upper"))
    assert told["low"] < low["value"] < high["value"] < told["high"]
    assert (low["kind"], high["kind"]) == ("lower", "upper")
    assert found.table["tolerance_lower_draws"].mean() == pytest.approx(told["draws"])
    assert found.result["estimators"]["tolerance"] == {"nats": 0.1, "per_datum": False}
    said = re.sub(r"\s+", " ", done.out)
    assert "tolerance of 0.1 nats for the mean log p(x): reached" in said
    assert "12 of 12 data got there" in said
    error = 6 * math.hypot(low["monte_carlo_error"], found.result["evidence"]["importance"]["monte_carlo_error"])
    assert low["value"] == pytest.approx(found.result["evidence"]["importance"]["value"], abs=error + 0.05)


@pytest.mark.usefixtures("unillustrated")
def test_a_collapsed_posterior_is_said_to_be_one(copy, monkeypatch):
    monkeypatch.setattr("taut.evidence.summary.ACTIVE", 1e9)
    run = copy("vae")
    done = evaluated(run, "limit=20", "k=200")
    assert "posterior collapse: 0 of 3 latent units are active" in re.sub(r"\s+", " ", done.out)
    assert any("callbacks=[default,warmup]" in warning for warning in read(run).result["warnings"])
    assert "posterior collapse" not in evaluated(copy("mog"), "limit=20", "k=200").out, "a category is no unit"


@pytest.mark.usefixtures("unillustrated")
def test_fewer_rows_are_the_first_ones_with_the_same_values(default, copy):
    run = copy("vae")
    assert evaluated(run, "limit=7", "k=20").code == 0
    table = read(run).table
    assert len(table["row"]) == 7
    for name in ("elbo", "importance", "struski", "importance_khat"):
        np.testing.assert_allclose(table[name], default.table[name][:7], rtol=1e-5, equal_nan=True)


@pytest.mark.usefixtures("unillustrated")
def test_a_second_evaluation_takes_the_place_of_the_first(copy):
    run = copy("vae")
    assert evaluated(run, "limit=4", "k=20").code == 0
    first = read(run)
    (run / "evaluation" / "stray.txt").touch()
    assert evaluated(run, "limit=4", "k=20", "seed=1").code == 0
    second = read(run)
    assert not (run / "evaluation" / "stray.txt").exists()
    assert first.result["evidence"]["importance"] != second.result["evidence"]["importance"]
    assert evaluated(run, "limit=4", "k=20").code == 0
    third = read(run).result
    assert {**third, "seconds": 0} == {**first.result, "seconds": 0}, "the same command gives the same numbers"
    assert created(run) == []


@pytest.mark.usefixtures("unillustrated")
def test_another_place_leaves_the_first_alone(copy):
    run = copy("vae")
    assert evaluated(run, "limit=4", "k=20").code == 0
    before = contents(run)
    assert evaluated(run, "limit=3", "k=20", "out=evaluation_x").code == 0
    assert read(run, "evaluation_x").result["n"] == 3
    assert {path: before[path] for path in before} == {path: contents(run)[path] for path in before}


@pytest.mark.usefixtures("unillustrated")
@pytest.mark.parametrize("split", ["train", "val"])
def test_other_splits(split, copy):
    run = copy("vae")
    done = evaluated(run, f"split={split}", "limit=5", "k=20")
    result = read(run).result
    assert f"{split} split" in done.out
    assert (result["split"], result["n"]) == (split, 5)
    assert result["held_out"] == (split != "train")
    assert evaluated(run, "split=test", "limit=5", "k=20", "out=evaluation_test").code == 0
    assert read(run, "evaluation_test").result["evidence"]["elbo"] != result["evidence"]["elbo"]


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("no room"), 1), (OSError(28, "No space left"), 1), (KeyboardInterrupt(), 130)]
)
def test_a_failure_while_writing_leaves_the_earlier_evaluation(error, code, copy, monkeypatch):
    run = copy("vae")
    assert evaluated(run, "limit=3", "k=20").code == 0
    before = contents(run)
    saved = []

    def fail(figure, path):
        saved.append(path)
        if len(saved) == 2:
            raise error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr(
        "taut.commands.evaluate.evaluation_figures", lambda *_: [("one", None), ("two", None), ("three", None)]
    )
    monkeypatch.setattr(figures, "save", fail)
    assert evaluated(run, "limit=4", "k=20").code == code
    assert len(saved) == 2
    assert contents(run) == before


@pytest.mark.usefixtures("unillustrated")
def test_a_failure_while_replacing_puts_the_earlier_evaluation_back(copy, monkeypatch):
    run = copy("vae")
    assert evaluated(run, "limit=3", "k=20").code == 0
    before = contents(run)
    rename = Path.rename

    def fail(path, target):
        if path.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        patch.setattr(Path, "replace", fail)
        assert evaluated(run, "limit=4", "k=20").code == 1
    assert contents(run) == before


def test_what_a_kill_leaves_is_swept_away_by_the_next_evaluation(copy):
    run = copy("vae")
    assert evaluated(run, "limit=3", "k=20").code == 0
    before = contents(run / "evaluation")
    child = os.fork()
    if child == 0:
        evaluate.evaluation_figures = lambda *_: [("one", None)]
        figures.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        evaluated(run, "limit=4", "k=20")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert contents(run / "evaluation") == before
    assert evaluated(run, "limit=4", "k=20").code == 0
    assert read(run).result["n"] == 4
    assert created(run) == []


SELECTIONS = {
    "[importance]": {"importance": "lower"},
    "importance": {"importance": "lower"},
    "[sumo,importance]": {"sumo": "estimate", "importance": "lower"},
    "[naive,uniform]": {"naive": "lower", "uniform": "lower"},
    "[ais,struski]": {"ais": "lower", "struski": "upper"},
    "[u_k,bdmc]": {},
    "[jackknife]": {"jackknife": "estimate"},
    "[]": {},
}


@pytest.mark.parametrize("chosen", SELECTIONS)
def test_what_is_chosen_is_measured(chosen, copy):
    run = copy("vae")
    annealed = [word for word in ANNEALED if word.split(".")[1] in chosen]
    done = evaluated(run, f"evidence={chosen}", "k=40", "limit=3", "simulated=4", *annealed)
    assert done.code == 0, done.err
    result = read(run).result
    kinds = {name: score["kind"] for name, score in result["evidence"].items()}
    assert kinds == {"elbo": "lower", **SELECTIONS[chosen]}
    if "u_k" in chosen:
        assert {"u_k", "bdmc"} < set(result["simulated"]["evidence"])
        assert result["simulated"]["n"] == 4
    else:
        assert result["simulated"] is None
    assert all(score["k"] == 40 for name, score in result["evidence"].items() if name in ("importance", "naive"))


@pytest.mark.usefixtures("unillustrated")
def test_more_samples_tighten_the_bound(copy):
    run = copy("vae")
    found = []
    for k in (1, 4, 64):
        done = evaluated(run, "evidence=[importance]", f"k={k}", "limit=50")
        assert done.code == 0
        assert ("In place of the results of an earlier command" in done.out) == (k > 1)
        found.append(read(run).result["evidence"]["importance"])
    assert [score["k"] for score in found] == [1, 4, 64]
    assert found[0]["monte_carlo_error"] is None  # nobody knows the noise of one sample
    noise = 2 * found[1]["monte_carlo_error"]  # of the mean of four
    for fewer, more in pairwise(found):
        assert fewer["value"] < more["value"] + 4 * noise
    assert found[0]["value"] < found[-1]["value"] - 4 * noise


@pytest.fixture(scope="module")
def gap(runs, tmp_path_factory):
    """The full report of each model, with a few steps of everything."""
    made = {}

    def report(name):
        if name not in made:
            run = copied(runs(name), tmp_path_factory.mktemp("gap"))
            with pytest.MonkeyPatch.context() as patch:
                if name != "vae":
                    patch.setattr("taut.commands.evaluate.evaluation_figures", lambda *_: [])
                done = evaluated(run, "experiment=gap", *FEW, *ANNEALED)
            assert done.code == 0, done.err
            made[name] = SimpleNamespace(run=run, said=done.out, **_read(run / "evaluation"))
        return made[name]

    return report


def test_the_full_report_of_a_vae(gap):
    report = gap("vae")
    result = report.result
    assert set(result["evidence"]) == {
        "elbo",
        *("naive", "uniform", "importance", "jackknife", "sumo", "ais", "struski"),
    }
    assert set(result["simulated"]["evidence"]) > {"u_k", "bdmc"}
    assert result["simulated"]["n"] == result["n"] == 6  # as many as rows, since nobody says how many
    assert {path.name for path in (report.folder / "figures").iterdir()} == {
        *("bracket.png", "thermodynamic.png", "gaps.png", "equal_cost.png", "gap_apart.png")
    }
    assert [sentence.split(" ")[0] for sentence in result["skipped"]] in ([], ["evidence=exact"])
    assert not result["gap"]["exact"]
    for word in ("amortisation", "approximation", "settled", "simulated from the model", "SUMO", "AIS", "BDMC"):
        assert word in report.said


def test_the_parts_of_the_gap_add_up(gap):
    report = gap("vae")
    apart, table = report.result["apart"], report.table
    assert set(apart) == {"test", "train"}
    assert apart["test"]["n"] == 5, "gap.limit rows of the six measured"
    known = ~np.isnan(table["best_elbo"])
    assert known.tolist() == [True] * 5 + [False]
    assert apart["test"]["best"]["value"] == pytest.approx(table["best_elbo"][known].mean(), rel=1e-12)
    assert apart["test"]["elbo"]["value"] == pytest.approx(table["elbo"][known].mean(), rel=1e-12)
    for one in apart.values():
        assert one["amortisation"]["value"] == pytest.approx(one["best"]["value"] - one["elbo"]["value"], abs=1e-9)
    low = apart["test"]["amortisation"]["value"] + apart["test"]["approximation"]["low"]["value"]
    best = table[apart["test"]["approximation"]["lower"]][known]
    assert low == pytest.approx((best - table["elbo"][known]).mean(), abs=1e-9)
    train = list(csv.DictReader((report.folder / "data_train.csv").open()))
    assert len(train) == 5
    assert np.mean([float(row["elbo"]) for row in train]) == pytest.approx(apart["train"]["elbo"]["value"], rel=1e-12)


@pytest.mark.usefixtures("unillustrated")
def test_too_short_a_search_is_said_to_be_too_short(copy):
    run = copy("vae")
    done = evaluated(run, "gap.apart=true", "gap.steps=8", "gap.splits=[test]", "limit=20", "k=200")
    assert done.code == 0
    assert read(run).result["apart"]["test"]["settled"] < 0.95
    assert "more gap.steps" in re.sub(r"\s+", " ", done.out)


def test_em_of_a_mixture_has_no_gap_and_says_so_exactly(gap):
    report = gap("mog")
    result = report.result
    assert result["gap"]["exact"]
    assert result["evidence"]["exact"]["kind"] == "exact"
    np.testing.assert_allclose(report.table["gap_low"], 0, atol=1e-9)
    for split in ("test", "train"):
        one = result["apart"][split]
        assert one["exact"]
        assert abs(one["amortisation"]["value"]) < 1e-9
        assert abs(one["approximation"]["low"]["value"]) < 1e-9
    assert re.search(r"gap = log p\(x\) - ELBO = 0\.000\b", report.said)
    own = json.loads((report.run / "result.json").read_text())
    assert own["scores"]["log_px"]["kind"] == "exact"


def test_what_does_not_fit_is_skipped_with_a_note_in_a_full_report(gap, copy):
    skipped = gap("mog").result["skipped"]
    assert any(sentence.startswith("evidence=ais") for sentence in skipped)
    assert any("bdmc" in sentence for sentence in skipped)
    assert "ais" not in gap("mog").result["evidence"]
    for sentence in skipped:
        assert sentence.split(" ")[0] in gap("mog").said
    done = evaluated(copy("mog"), "evidence=[importance,ais]", "k=20")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("evidence=ais moves z along gradients, but z is a category")


def test_a_gap_that_cannot_be_taken_apart_is_skipped_with_a_note_in_a_full_report(gap, copy):
    report = gap("bits")
    assert report.result["gap"]["exact"]
    assert report.result["apart"] == {}
    assert "skipped: gap.apart=true looks for the best q" in report.said
    done = evaluated(copy("bits"), "gap.apart=true", "k=20")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "a discrete z do not carry; set gap.apart=false" in done.err


@pytest.mark.usefixtures("unillustrated")
def test_samples_that_do_not_divide_are_skipped_with_a_note_in_a_full_report(copy):
    run = copy("vae")
    done = evaluated(run, "experiment=gap", "evidence=[importance,struski]", "k=67", "limit=3", "gap.apart=false")
    assert done.code == 0, done.err
    assert "struski" in read(run).result["skipped"][0]


def test_the_gap_of_a_linear_model_is_exact(gap):
    report = gap("ppca")
    result = report.result
    assert result["gap"]["exact"]
    exact, elbo = result["evidence"]["exact"]["value"], result["evidence"]["elbo"]["value"]
    assert result["gap"]["low"]["value"] == result["gap"]["high"]["value"] == pytest.approx(exact - elbo, abs=1e-9)
    one = result["apart"]["test"]
    assert one["exact"]
    parts = one["amortisation"]["value"] + one["approximation"]["low"]["value"]
    assert parts == pytest.approx((report.table["exact"] - report.table["elbo"])[:5].mean(), abs=1e-9)
    for name, score in result["evidence"].items():
        slack = 5 * score["monte_carlo_error"] + 1e-9
        assert score["kind"] != "lower" or score["value"] <= exact + slack, name
        assert score["kind"] != "upper" or score["value"] >= exact - slack, name


@pytest.mark.usefixtures("unillustrated")
def test_the_interval_for_a_linear_model_holds_the_exact_value(copy):
    run = copy("ppca")
    assert evaluated(run, "k=400", "limit=8", "evidence=[exact,importance,struski]").code == 0
    result = read(run).result
    exact = result["evidence"]["exact"]["value"]
    for name, side in {"importance": 1, "struski": -1}.items():
        score = result["evidence"][name]
        assert side * (score["value"] - exact) < 5 * score["monte_carlo_error"]


ZOO = {
    "mixture prior": [*VAE, "prior=mixture", "prior.components=3", "q=full"],
    "uniform q": [*VAE, "model=iwae", "k=3", "q=uniform"],
}


@pytest.mark.usefixtures("unillustrated")
@pytest.mark.parametrize("words", ZOO.values(), ids=ZOO)
def test_every_model_gets_a_full_report(words, tmp_path):
    run = trained(tmp_path / "run", *words)
    done = evaluated(run, "experiment=gap", *FEW, *ANNEALED, "gap.splits=[test]")
    assert done.code == 0, done.err
    result = read(run).result
    told = {re.match(r"evidence[=.](\w+)", sentence)[1] for sentence in result["skipped"]}
    assert told | set(result["evidence"]) >= {"naive", "uniform", "importance", "jackknife", "sumo", "ais", "struski"}
    assert all(score["value"] is not None for score in result["evidence"].values())


@pytest.mark.usefixtures("unillustrated")
def test_one_datum_is_enough(copy):
    run = copy("vae")
    done = evaluated(run, "limit=1", "k=20")
    assert (done.code, done.err) == (0, ""), "and no warning"
    score = read(run).result["evidence"]["importance"]
    assert score["value"] is not None
    assert score["standard_error"] is None


def _sweep(tmp_path, *words):
    done = command("evaluate", "-m", *words, "threads=1", "limit=3", "k=20", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    return done, tmp_path / "sweep"


def _tables(said: str) -> dict[str, list[str]]:
    """Values after each title of the comparison."""
    parts = re.split(r"^(test split of [^\n]*)$", said, flags=re.MULTILINE)[1:]
    return {
        title.strip(): re.findall(r"≥ +-?[\d.]+", body) for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.mark.usefixtures("unillustrated")
def test_scores_of_different_binarisations_share_no_column(copy, tmp_path):
    runs = [copy("vae"), copy("threshold"), copy("again")]
    done, folder = _sweep(tmp_path, "run=" + ",".join(map(str, runs)))
    assert done.code == 0, done.err
    tables = _tables(done.out)
    assert len(tables) == 2
    (dynamic,) = (values for title, values in tables.items() if "binarisation dynamic" in title)
    (threshold,) = (values for title, values in tables.items() if "binarisation threshold" in title)
    assert len(dynamic) == 2 * len(threshold) == 4, "ELBO and importance sampling of two runs, and of one"
    results = json.loads((folder / "comparison.json").read_text())
    assert [one["run"] for one in results] == [run.name for run in runs]
    assert [one["binarisation"] for one in results] == ["dynamic", "threshold", "dynamic"]
    for run, one in zip(runs, results, strict=True):
        assert read(run).result["evidence"] == one["evidence"]


@pytest.mark.usefixtures("unillustrated")
def test_a_run_gets_the_same_numbers_after_one_of_another_precision(copy, tmp_path):
    run = copy("vae")
    assert evaluated(run, "limit=3", "k=20").code == 0
    alone = read(run).result["evidence"]
    done, _ = _sweep(tmp_path, f"run={copy('mog')},{run}")
    assert done.code == 0, done.err
    assert len(_tables(done.out)) == 2, "other data, another table"
    assert read(run).result["evidence"] == alone


@pytest.mark.usefixtures("unillustrated")
def test_compared_runs_can_be_told_apart(copy, tmp_path):
    """A list of runs is a job for each and a comparison; both are 'vae k=1 seed=0 digits dynamic normal diagonal'."""
    words = ("threads=1", "limit=3", "k=20", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = command("evaluate", f"run=[{copy('vae')},{copy('again')}]", *words)
    compared = " ".join(done.out[done.out.index("test split of") :].split())
    assert re.search(r"\bagain\b", compared)
    assert "Highest bound on log p(x): " in compared
    assert "confidence sequences of 8 ordered pairs" in compared


@pytest.mark.usefixtures("unillustrated")
def test_a_refused_run_does_not_take_the_comparison_of_the_others_away(copy, tmp_path):
    done, folder = _sweep(tmp_path, f"run={copy('vae')},{tmp_path / 'nosuch'},{copy('again')}")
    assert done.code == 2
    assert done.err.count("nosuch is not the folder of a run") == 1
    assert [one["run"] for one in json.loads((folder / "comparison.json").read_text())] == ["vae", "again"]


@pytest.mark.usefixtures("unillustrated")
def test_runs_are_compared_by_the_parts_of_their_gaps(copy, tmp_path):
    run = copy("vae")
    apart = ["gap.apart=true", "gap.steps=8", "gap.splits=[test]"]
    done, folder = _sweep(tmp_path, f"run={run},{copy('again')}", *apart)
    assert done.code == 0, done.err
    assert "amortisation" in done.out[done.out.rindex("test split of") :]
    assert [path.name for path in folder.glob("*.png")] == ["gaps.png"]


@pytest.mark.usefixtures("unillustrated")
def test_gaps_of_different_binarisations_share_no_picture(copy, tmp_path, monkeypatch):
    drawn = []

    def noted(rows, title):
        drawn.append((title, [row["label"] for row in rows]))
        return drawing(rows, title=title)

    drawing = figures.stacked_gaps
    monkeypatch.setattr(figures, "stacked_gaps", noted)
    runs = ",".join(str(copy(name)) for name in ("vae", "threshold", "again"))
    done, folder = _sweep(tmp_path, f"run={runs}", "gap.apart=true", "gap.steps=8", "gap.splits=[test]")
    assert done.code == 0, done.err
    assert {path.name for path in folder.glob("*.png")} == {"gaps_1.png", "gaps_2.png"}
    (dynamic, two), (threshold, one) = drawn
    assert dynamic == "The gap taken apart: digits, dynamic, test split"
    assert threshold == "The gap taken apart: digits, threshold, test split"
    assert two == ["vae digits k=1 seed=0", "lr=0.01"], "what they differ in"
    assert one == ["vae digits k=1 seed=0"]


def test_the_record_of_the_run_gets_numbers_and_pictures(programs, copy):
    run = copy("tracked")
    identity = (run / "wandb" / "id").read_text()
    before = set((run / "wandb").glob("offline-run-*"))
    done = evaluated(run, "limit=4", "k=20")
    assert done.code == 0, done.err
    assert "wandb" not in done.out + done.err
    assert (run / "wandb" / "id").read_text() == identity
    (record,) = set((run / "wandb").glob("offline-run-*")) - before
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(record)],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = json.loads(shown.stdout)
    assert found["run_id"] == identity.strip()
    assert found["exit_code"] == 0
    scores, summary = read(run).result["evidence"], found["summary"]
    for name in ("elbo", "importance", "struski"):
        for part in ("standard_error", "monte_carlo_error", "kind"):
            assert summary[f"evaluation/test/{name}/{part}"] == pytest.approx(scores[name][part])
        assert summary[f"evaluation/test/{name}"] == pytest.approx(scores[name]["value"])
    assert {path.stem.split("_")[0] for path in record.rglob("*.png")} == {"bracket", "gaps", "thermodynamic"}


def test_the_record_gets_every_number_of_a_full_report(gap):
    """Real and simulated data, both ends of the gap, its parts: with their errors, diagnostics and doubts."""
    result = gap("vae").result
    numbers = flat(result, "e")
    for place, section in (("e", result), ("e/simulated", result["simulated"])):
        for name, score in section["evidence"].items():
            for part in ("standard_error", "monte_carlo_error", "kind", "k"):
                assert numbers.get(f"{place}/{name}/{part}") == score[part]
            assert numbers[f"{place}/{name}"] == score["value"]
            assert numbers.get(f"{place}/{name}/doubts", "") == "; ".join(score["doubts"])
            for diagnostic, summary in score["diagnostics"].items():
                assert numbers.get(f"{place}/{name}/{diagnostic}") == summary["median"]
        for name in ("certificate", "upper_certificate"):
            assert numbers.get(f"{place}/{name}") == (section[name] or {"value": None})["value"]
        for end, of in (("low", "lower"), ("high", "upper")):
            assert numbers[f"{place}/gap/{end}"] == section["gap"][end]["value"]
            assert numbers[f"{place}/bracket/{end}"] == section["evidence"][section["gap"][of]]["value"]
    assert any(score["doubts"] for score in result["evidence"].values())
    for split in ("test", "train"):
        parts = result["apart"][split]
        assert numbers[f"e/{split}/settled"] == parts["settled"]
        assert numbers[f"e/{split}/amortisation/standard_error"] == parts["amortisation"]["standard_error"]
        for end in ("low", "high"):
            assert numbers[f"e/{split}/approximation/{end}"] == parts["approximation"][end]["value"]


def test_an_evaluation_without_a_record_makes_none(default):
    assert not (default.run / "wandb").exists()


UNEVEN = [
    *("experiment=gap", "k=1030", "evidence.struski.blocks=10", "limit=7", "simulated=3", "gap.steps=8", "gap.limit=3"),
    *ANNEALED,
]
"""Seven rows and 1,030 samples in three blocks: no share is as large as another."""


@pytest.fixture(scope="module")
def alone(runs, tmp_path_factory):
    """What one process finds."""
    run = copied(runs("ppca"), tmp_path_factory.mktemp("alone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taut.commands.evaluate.evaluation_figures", lambda *_: [])
        assert evaluated(run, *UNEVEN).code == 0
    return run


def test_two_processes_find_what_one_does(commands, alone):
    words = [f"run={alone}", "threads=1", "strategy=ddp_cpu", *UNEVEN, "share=samples", "out=evaluation_two"]
    done = commands.run(ROOT / "evaluate.py", *words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("test split, 7 data") == 1
    _same_evaluation(alone, "evaluation_two")


@pytest.mark.usefixtures("unillustrated")
@pytest.mark.parametrize("share", ["data", "samples"])
def test_three_processes_find_what_one_does(share, alone, tmp_path):
    world, out = 3, f"evaluation_{share}"
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            os._exit(_as_rank(rank, world, share, tmp_path / "meet", alone, out))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * world
    _same_evaluation(alone, out)


def _as_rank(rank: int, world: int, share: str, meeting: Path, run: Path, out: str) -> int:
    """The exit code of one process of several; like a rank of Lightning's, it is quiet unless it is the first."""
    try:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
        Processes.launch = lambda *_: nullcontext(Processes(rank, world, divide=share))
        os.environ["LOCAL_RANK"] = str(rank)
        done = evaluated(run, *UNEVEN, f"share={share}", f"out={out}")
        print(done.err, file=sys.stderr)
        return done.code
    except BaseException:
        return 9


def _same_evaluation(run: Path, out: str) -> None:
    one, two = read(run), read(run, out)
    assert created(run) == []
    assert set(one.table) == set(two.table)
    for name in one.table:
        np.testing.assert_allclose(two.table[name], one.table[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for part in ("evidence", "gap", "apart", "simulated", "curve", "warnings", "skipped"):
        _same(two.result[part], one.result[part], part)


def _same(found, expected, place):
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for name in expected:
            _same(found[name], expected[name], f"{place}/{name}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-12), place
    elif isinstance(expected, list) and expected and isinstance(expected[0], float):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=place)
    else:
        assert found == expected, place
