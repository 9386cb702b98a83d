"""``python complete.py`` end to end: what it writes and prints, and that its numbers are those of the model."""

import csv
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from evaluations import TINY, VAE, command, contents, copied, trained
from pyarrow import parquet
from scipy.stats import multivariate_normal
from sklearn.impute import KNNImputer, SimpleImputer

from taut.commands.complete_input import CompleteInput
from taut.commands.complete_output import CompleteOutput, _said_of_names, write_filled
from taut.completion import Completions
from taut.completion.judged import by_mean, by_nearest, cell_errors
from taut.model.likelihood.mixed import Mixed
from taut.model.networks import Unchanged
from taut.training.stored_run import Run

SHORT = ["threads=1", "k=20", "limit=6", "draws=2"]
TABLE = [*TINY, "logger=csv", "data=table", "model=mog", "model.components=1", "trainer.max_epochs=30"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A Gaussian table of three columns, every fifth cell empty."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + [10, 0, -5]
    cells = [["" if (3 * i + j) % 5 == 0 else f"{v:.4f}" for j, v in enumerate(row)] for i, row in enumerate(rows)]
    path = tmp_path_factory.mktemp("table") / "holes.csv"
    path.write_text("a,b,c\n" + "".join(",".join(row) + "\n" for row in cells))
    return path


@pytest.fixture(scope="module")
def runs(trainings, tmp_path_factory, table):
    """A few tiny runs, each trained once when first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    commands = {
        "vae": VAE,
        "tracked": [*VAE, "logger=wandb"],
        "masked": [*VAE, "q=masked", "mask=random", "mask.fresh=true"],
        "bits": [*VAE, "prior=bernoulli", "q=bernoulli", "objective=reinforce", "k=2"],
        "mog": [*TABLE, f"data.path={table}", "mask=from_data", "data.val_fraction=0", "data.test_fraction=0"],
    }

    def run(name: str) -> Path:
        if name not in made:
            made[name] = trained(folder / name, *commands[name])
        return made[name]

    return run


def _result(run: Path, mask: str) -> dict:
    return json.loads((run / f"completion_{mask}" / "result.json").read_text())


@pytest.fixture(scope="module")
def default(runs, tmp_path_factory):
    """The lower half of some digits filled in."""
    run = copied(runs("vae"), tmp_path_factory.mktemp("default"))
    before = contents(run)
    done = command("complete", f"run={run}", "mask=bottom_half", *SHORT)
    assert done.code == 0, done.err
    return run, before, done


def test_it_leaves_numbers_arrays_and_a_picture_and_touches_nothing_else(default):
    run, before, done = default
    found = {path.name for path in (run / "completion_bottom_half").rglob("*")}
    assert found >= {"result.json", "data.csv", "completions.npz", "config.yaml", "completions.png"}
    assert {name: content for name, content in contents(run).items() if "completion_" not in name} == before
    assert "log p(x_obs) in nats per datum" in done.out
    assert re.search(r"log p\(x_mis \| x_obs\) = log p\(x\) - log p\(x_obs\) (in \[-|about -)", done.out)
    for name in (
        "energy score",
        "CRPS",
        "RMSE",
        "draws of the column",
        "mean imputation",
        "nearest neighbour",
        "most probable",
    ):
        assert name in done.out


def test_its_result_says_what_was_hidden_and_what_every_number_is(default):
    result = _result(default[0], "bottom_half")
    assert result["mask"] == "bottom_half"
    assert result["cells"] == "observed"
    filled = int(np.isnan(np.load(default[0] / "completion_bottom_half" / "completions.npz")["x"]).sum())
    assert result["filled"] == filled > 0
    assert result["observed_share"] == pytest.approx(1 - filled / result["cells_in_all"])
    assert result["observed_share"] == 0.5
    assert result["refined"] is True
    assert result["missing_given_observed"]["kind"] == "difference of two lower bounds, itself no bound"
    whole, part = result["complete"]["evidence"], result["observed"]["evidence"]
    assert result["missing_given_observed"]["value"] == pytest.approx(
        whole["importance"]["value"] - part["importance"]["value"]
    )
    alone = {"mean", "most probable", "mean imputation", "nearest neighbour"}
    assert set(result["errors"]) == {"draws", "draws of the column", *alone}
    assert set(result["errors"]["draws"]) - set(result["errors"]["mean"]) == {"coverage_50", "coverage_90"}
    ends = result["missing_given_observed"]
    assert (ends["low"]["of"], ends["high"]["of"]) == (["importance", "struski"], ["struski", "importance"])
    assert ends["low"]["value"] == pytest.approx(whole["importance"]["value"] - part["struski"]["value"])
    assert ends["high"]["value"] == pytest.approx(whole["struski"]["value"] - part["importance"]["value"])
    noise = [scores[name]["monte_carlo_error"] for scores, name in ((whole, "importance"), (part, "struski"))]
    assert ends["low"]["monte_carlo_error"] == pytest.approx(math.hypot(*noise))


def test_its_arrays_keep_what_is_observed_and_fill_the_rest(default):
    run, _, _ = default
    arrays = np.load(run / "completion_bottom_half" / "completions.npz")
    _, data, _ = Run.open(run).load()
    truth = data.rows_of("test")[:6].numpy()
    holes = np.isnan(arrays["x"])
    assert holes[:, :, 4:].all()
    assert not holes[:, :, :4].any()
    for name in ("mean", "most_probable"):
        assert np.array_equal(arrays[name][~holes], truth[~holes])
        assert not np.isnan(arrays[name]).any()
    assert arrays["draws"].shape == (2, 6, 1, 8, 8)
    assert set(np.unique(arrays["draws"])) <= {0.0, 1.0}
    assert ((arrays["mean"][holes] > 0) & (arrays["mean"][holes] < 1)).all()
    assert np.array_equal(arrays["most_probable"][holes], arrays["mean"][holes] > 0.5)


def test_the_same_command_gives_the_same_bits(default, runs, tmp_path):
    again = copied(runs("vae"), tmp_path)
    assert command("complete", f"run={again}", "mask=bottom_half", *SHORT).code == 0
    one, two = (np.load(run / "completion_bottom_half" / "completions.npz") for run in (default[0], again))
    for name in ("mean", "most_probable", "draws"):
        assert np.array_equal(one[name], two[name]), name


def test_a_run_trained_on_holes_is_not_refined_and_says_what_it_scored(runs):
    run = runs("masked")
    assert json.loads((run / "result.json").read_text())["cells"] == "observed"
    done = command("complete", f"run={run}", *SHORT)
    assert done.code == 0, done.err
    result = _result(run, "random_0.5")
    assert result["refined"] is False
    assert 0.3 < result["observed_share"] < 0.7


def test_advice_on_few_samples_names_only_what_the_run_can_do(default, runs, monkeypatch):
    """20 samples are always too few to tell: ``refine=true``, ``q=masked`` and AIS are refused where z is discrete."""
    assert not any("What helps" in text for text in _result(default[0], "bottom_half")["warnings"]), "most count"
    monkeypatch.setattr("taut.commands.complete.MOST", 2.0)
    ways = "a run trained with q=masked mask=random mask.fresh=true; evidence=[ais]"
    for word, told in (("refine=false", f"a larger k; refine=true (the best q for each datum); {ways}"), ("", "")):
        assert command("complete", f"run={default[0]}", "mask=top_half", *SHORT, *word.split()).code == 0
        (whole,) = [text for text in _result(default[0], "top_half")["warnings"] if "What helps" in text]
        assert (
            told or "samples (median over the data). What helps: a larger k; evidence=[ais] for log p(x_obs)."
        ) in whole
    assert command("complete", f"run={runs('bits')}", "mask=left_half", *SHORT).code == 0
    (of_bits,) = [text for text in _result(runs("bits"), "left_half")["warnings"] if "What helps" in text]
    assert of_bits.endswith(": q has never seen holes. What helps: a larger k.")


def test_nothing_missing_gives_the_data_and_log_px(runs):
    run = runs("vae")
    assert command("complete", f"run={run}", *SHORT).code == 0
    result, arrays = _result(run, "from_data"), np.load(run / "completion_from_data" / "completions.npz")
    assert result["observed_share"] == 1
    assert result["warnings"] == [
        "nothing is missing, so the completions are the data; choose a mask, e.g. mask=random."
    ]
    assert np.array_equal(arrays["mean"], arrays["x"])
    assert command("evaluate", f"run={run}", "threads=1", "k=20", "limit=6").code == 0
    whole = json.loads((run / "evaluation" / "result.json").read_text())["evidence"]["importance"]
    part = result["observed"]["evidence"]["importance"]
    noise = math.hypot(whole["monte_carlo_error"], part["monte_carlo_error"])
    assert abs(part["value"] - whole["value"]) < 8 * noise


def test_upper_bounds_are_of_data_of_the_model_with_the_same_holes(runs, tmp_path):
    run = runs("vae")
    short = [f"evidence.{name}.{word}" for name in ("ais", "bdmc") for word in ("steps=3", "chains=3", "leapfrog=2")]
    done = command("complete", f"run={run}", "mask=left_half", "evidence=[importance,ais,u_k,bdmc]", *short, *SHORT)
    assert done.code == 0, done.err
    result = _result(run, "left_half")
    assert set(result["observed"]["evidence"]) == {"elbo", "importance", "ais"}
    made = result["simulated"]
    assert set(made["evidence"]) == {"elbo", "importance", "ais", "u_k", "bdmc"}
    assert made["n"] == 6
    assert made["evidence"]["importance"]["value"] < made["evidence"]["u_k"]["value"]
    assert "simulated from the model, with the same holes, 6 data: log p(x_obs)" in done.out
    empty = tmp_path / "empty.csv"
    empty.write_text("a,b,c\n" + ",,\n" * 4)
    words = ["data=table", f"data.path={empty}", "evidence=u_k", "k=20", "threads=1"]
    assert command("complete", f"run={runs('mog')}", *words).code == 0
    nothing = _result(runs("mog"), "from_data_empty")
    for answer in (nothing["observed"], nothing["simulated"]):
        for score in answer["evidence"].values():
            assert score["value"] == pytest.approx(0, abs=1e-5)


def test_wandb_gets_the_numbers_and_the_picture(programs, runs, monkeypatch):
    logged = {}

    def record(cfg, folder, name, added):
        logged.update(added.numbers, pictures={name: path.name for name, path in added.pictures.items()})

    monkeypatch.setattr("taut.training.loggers.records._record", record)
    assert command("complete", f"run={runs('tracked')}", "mask=square", *SHORT).code == 0
    assert [*logged["pictures"].values()] == ["completions.png"]
    assert all(name.startswith("pictures/completion/") for name in logged["pictures"])
    assert logged["completion_square/test/mean/rmse"] > 0
    assert "completion_square/test/importance" in logged


@pytest.mark.usefixtures("float64")
def test_a_table_is_filled_by_regression_and_keeps_its_own_cells(runs, table, tmp_path):
    """One Gaussian: the conditional mean by numpy in the holes, the file letter by letter elsewhere, in its order."""
    shuffled, out = tmp_path / "shuffled.csv", tmp_path / "filled.csv"
    rows = list(csv.reader(table.open()))
    shuffled.write_text("".join(f"{c},{a},{b}\n" for a, b, c in rows))
    done = command("complete", f"run={runs('mog')}", "data=table", f"data.path={shuffled}", f"out={out}", "threads=1")
    assert done.code == 0, done.err
    written, given = list(csv.reader(out.open())), list(csv.reader(shuffled.open()))
    assert written[0] == given[0] == ["c", "a", "b"]
    assert len(written) == len(given)
    model, _, _ = Run.open(runs("mog")).load()
    mean, covariance = (
        v[0].detach().numpy() for v in (model.joint.likelihood.means, model.joint.likelihood.covariances())
    )
    for new, old in zip(written[1:], given[1:], strict=True):
        x = np.array([float(old[i] or "nan") for i in (1, 2, 0)])
        o, h = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
        x[h] = mean[h] + covariance[np.ix_(h, o)] @ np.linalg.solve(covariance[np.ix_(o, o)], x[o] - mean[o])
        for place, value in zip((1, 2, 0), x, strict=True):
            assert new[place] == old[place] if old[place] else float(new[place]) == pytest.approx(value, rel=1e-9)
    scores = [
        multivariate_normal(mean[o], covariance[np.ix_(o, o)]).logpdf(v[o])
        for v in (np.array([float(cell or "nan") for cell in row]) for row in rows[1:])
        for o in [np.flatnonzero(~np.isnan(v))]
    ]
    exact = _result(runs("mog"), "from_data_shuffled")["observed"]["evidence"]["exact"]
    assert exact["value"] == pytest.approx(np.mean(scores), rel=1e-9)
    assert exact["kind"] == "exact"


def test_draws_stack_tables(runs, table, tmp_path):
    for out in (tmp_path / "draws.csv", tmp_path / "draws.npy"):
        words = ["data=table", f"data.path={table}", f"out={out}", "fill=draws", "draws=3", "threads=1"]
        assert command("complete", f"run={runs('mog')}", *words).code == 0
    rows = list(csv.reader((tmp_path / "draws.csv").open()))
    assert rows[0] == ["draw", "a", "b", "c"]
    assert [row[0] for row in rows[1:]] == ["1"] * 200 + ["2"] * 200 + ["3"] * 200
    array = np.load(tmp_path / "draws.npy")
    assert array.shape == (3, 200, 3)
    assert np.array_equal(array.reshape(600, 3), np.array([row[1:] for row in rows[1:]], dtype=float))
    assert not np.array_equal(array[0], array[1])


def _of_families(fill: str, rows: list[list[str]] | None, out: Path) -> CompleteOutput:
    """A completion of two rows, with cells of every kind missing; the columns of the table are in another order."""
    words = {"height": "gaussian", "kind": "categorical 5", "smoker": "bernoulli", "visits": "poisson"}
    likelihood = Mixed((4,), 9, lambda latent, shape: Unchanged(), families=words)
    x = torch.tensor([[1.5, math.nan, 1, math.nan], [math.nan, 3, math.nan, 2]], dtype=torch.float64)
    mean = torch.tensor([[1.5, 1.96, 1, 4.25], [0.75, 3, 0.48, 2]], dtype=torch.float64)
    likeliest = torch.tensor([[1.5, 2, 1, 4], [0.5, 3, 0, 2]], dtype=torch.float64)
    draws = torch.tensor([[[1.5, 4, 1, 7], [3, 3, 1, 2]]], dtype=torch.float64)
    table: Any = None
    if rows is not None:
        table = SimpleNamespace(cells=lambda: iter(rows), columns=("visits", "height", "kind", "smoker"))
    given = CompleteInput(x, x, "test", True, table, (1, 2, 3, 0) if table else ())
    filled = Completions(mean, likeliest, draws, torch.ones(2))
    cfg: Any = SimpleNamespace(fill=fill, out=str(out))
    data: Any = SimpleNamespace(columns=tuple(words))
    return CompleteOutput(cfg, None, {}, given, filled, None, data, likelihood)  # type: ignore[arg-type]


GIVEN = [["", "1.50", "", "1"], ["2", "", "3", ""]]


@pytest.mark.parametrize(
    ("fill", "rows", "expected"),
    [
        ("mean", GIVEN, ["4.25,1.50,2,1", "2,0.75,3,0"]),
        ("most_probable", GIVEN, ["4,1.50,2,1", "2,0.5,3,0"]),
        ("draws", GIVEN, ["1,7,1.50,4,1", "1,2,3.0,3,1"]),
        ("most_probable", [["", "1.50", "", "1.0"], ["2", "", "3.0", ""]], ["4,1.50,2.0,1.0", "2,0.5,3.0,0.0"]),
    ],
)
def test_cells_are_filled_with_values_that_their_column_can_hold(fill, rows, expected, tmp_path):
    output = _of_families(fill, rows, tmp_path / "out.csv")
    write_filled(output, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == expected


def test_an_array_has_categories_that_there_are(tmp_path):
    out = tmp_path / "out.npy"
    write_filled(_of_families("mean", None, out), out)
    assert np.load(out).tolist() == [[1.5, 2.0, 1.0, 4.25], [0.75, 3.0, 0.0, 2.0]]


def test_a_mean_that_is_not_written_is_said():
    said = ["out.csv: kind, smoker filled with the most probable value, since a mean of categories is none."]
    assert _said_of_names(_of_families("mean", GIVEN, Path("out.csv"))) == said
    assert _said_of_names(_of_families("mean", None, Path("out.csv"))) == said
    assert not _said_of_names(_of_families("draws", GIVEN, Path("out.csv")))


def test_other_files_of_a_table_give_the_same_cells(runs, table, tmp_path):
    """Parquet, with its columns in another order, and a file with semicolons and decimal commas, to CSV and Parquet."""
    words = ["data=table", "threads=1"]
    assert (
        command("complete", f"run={runs('mog')}", *words, f"data.path={table}", f"out={tmp_path / 'a.csv'}").code == 0
    )
    expected = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1)
    given = np.genfromtxt(table, delimiter=",", skip_header=1)
    parquet.write_table(pa.table({name: given[:, "abc".index(name)] for name in "cab"}), tmp_path / "my.parquet")
    (tmp_path / "commas.csv").write_text(table.read_text().replace(",", ";").replace(".", ","))
    for name, out in (("my.parquet", "b.csv"), ("my.parquet", "b.parquet"), ("commas.csv", "c.csv")):
        own = [*words, f"data.path={tmp_path / name}", f"out={tmp_path / out}"]
        done = command("complete", f"run={runs('mog')}", *own)
        assert done.code == 0, done.err
    filled = parquet.read_table(tmp_path / "b.parquet")
    assert filled.column_names == ["c", "a", "b"]
    np.testing.assert_allclose(np.stack([filled[name] for name in "abc"], 1), expected)
    with (tmp_path / "b.csv").open() as file:
        assert next(csv.reader(file)) == ["c", "a", "b"]
    np.testing.assert_allclose(np.loadtxt(tmp_path / "b.csv", delimiter=",", skiprows=1)[:, [1, 2, 0]], expected)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "c.csv", delimiter=",", skiprows=1), expected)


def test_an_array_keeps_its_own_numbers_and_images_become_rows_of_a_table(runs, tmp_path):
    """Float64 numbers that float32 cannot hold come back as they were; an image has a column for every pixel."""
    path = tmp_path / "images.npy"
    images = (np.random.default_rng(0).random((4, 1, 8, 8)) < 0.5).astype(float)
    images[:, :, 4:] = np.nan
    np.save(path, images)
    for out in (tmp_path / "filled.csv", tmp_path / "filled.npy"):
        words = ["data=table", f"data.path={path}", f"out={out}", "refine=false", *SHORT]
        done = command("complete", f"run={runs('vae')}", *words)
        assert done.code == 0, done.err
    rows = list(csv.reader((tmp_path / "filled.csv").open()))
    filled = np.load(tmp_path / "filled.npy")
    assert rows[0] == [f"x{i + 1}" for i in range(64)]
    assert np.allclose(np.array(rows[1:], dtype=float), filled.reshape(4, 64))
    assert np.array_equal(filled[:, :, :4], images[:, :, :4])
    assert not np.isnan(filled).any()
    table = np.random.default_rng(1).normal(size=(5, 3)) + np.array([10, 0, -5])
    table[0, 0] = table[3, 2] = np.nan
    np.save(path, table)
    words = ["data=table", f"data.path={path}", f"out={tmp_path / 'again.npy'}", "threads=1"]
    assert command("complete", f"run={runs('mog')}", *words).code == 0
    again = np.load(tmp_path / "again.npy")
    assert np.array_equal(again[~np.isnan(table)], table[~np.isnan(table)])
    assert not np.isnan(again).any()


def test_baselines_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    train, x = rng.normal(size=(50, 4)), rng.normal(size=(20, 4))
    x[rng.random(x.shape) < 0.4] = np.nan
    assert np.allclose(by_mean(train, x), SimpleImputer().fit(train).transform(x))
    some = ~np.isnan(x).all(1)
    assert np.allclose(by_nearest(train, x)[some], KNNImputer(n_neighbors=1).fit(train).transform(x)[some])
    train[0, 0] = np.nan
    assert np.allclose(by_nearest(train, x), KNNImputer(n_neighbors=1).fit(train).transform(x))


def test_errors_count_the_hidden_cells_whose_truth_is_known():
    nan = torch.nan
    x = torch.tensor([[nan, nan, 1.0], [0.0, nan, nan]])
    truth = torch.tensor([[1.0, nan, 1.0], [0.0, 0.0, 1.0]])
    completed = torch.tensor([[0.6, 9.0, 1.0], [0.0, 0.7, 0.4]])
    found = cell_errors(completed, truth, x, torch.tensor([1.0, 2.0, 0.5]), binary=True)
    assert found["rmse"]["value"] == pytest.approx(math.sqrt((0.16 + 0.49 + 0.36) / 3))
    assert found["nrmse"]["value"] == pytest.approx(math.sqrt((0.16 + 0.49 / 4 + 0.36 * 4) / 3))
    assert found["error_rate"]["value"] == pytest.approx(2 / 3)
    residuals = np.array([0 - 2 / 3 * 1, 2 - 2 / 3 * 2])
    expected = math.sqrt((residuals**2).sum() * 2) / 3
    assert found["error_rate"]["standard_error"] == pytest.approx(expected)


def test_the_lecture_needs_no_run(trainings, tmp_path):
    few = ["lecture.pixels=6", "lecture.images=2", "lecture.k=10", "lecture.repetitions=20", "lecture.components=4"]
    done = command("complete", "experiment=lecture", *few, f"hydra.run.dir={tmp_path}/lecture")
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "lecture").iterdir()} == {"result.json", "lecture.png"}
    result = json.loads((tmp_path / "lecture" / "result.json").read_text())
    assert result["difference"] < 1e-10
    assert result["methods"]["posterior"]["gap"] == pytest.approx(0, abs=1e-10)
    assert "the sum over all completions" in done.out
