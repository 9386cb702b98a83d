"""What TensorBoard, MLflow, W&B and a logger of the user's hold of a run, read by their own readers."""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from evaluations import TINY, command
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from taut.training.loggers.tensorboard import TensorBoard

WORDS = [*TINY, "callbacks=[none,pictures]", "network.hidden=[8]", "latent_dim=2", "trainer.max_epochs=2"]
SECRET = "trainer.precision=${oc.env:TEST_PRECISION}"
ALL = ["logger=[wandb,tensorboard,mlflow,plain]", "logger.mode=offline"]
PLAIN = "plain: {_target_: lightning.pytorch.loggers.CSVLogger, save_dir: '${hydra:runtime.output_dir}', name: plain}"
SCORES = ("val/bound", "val/elbo", "val/log_px", "val/gap", "train/bound")


@pytest.fixture(scope="module")
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_PRECISION", "32-true")
        yield


@pytest.fixture(scope="module")
def run(programs, environment, tmp_path_factory):
    """A run with all loggers at once that went on for an epoch, and was evaluated."""
    place = tmp_path_factory.mktemp("records")
    (place / "conf" / "logger").mkdir(parents=True)
    (place / "conf" / "logger" / "plain.yaml").write_text(PLAIN)
    folder, extra = place / "outputs" / "run", f"--config-dir={place / 'conf'}"
    for name, *words in (
        ("train", extra, *WORDS, *ALL, SECRET, f"hydra.run.dir={folder}"),
        ("train", extra, f"resume={folder}", "trainer.max_epochs=3"),
        ("evaluate", f"run={folder}", "limit=4", "k=20", "threads=1"),
    ):
        done = command(name, *words)
        assert done.code == 0, done.err
        assert "failed" not in done.err
    return folder


@pytest.fixture(scope="module")
def rows(run):
    with (run / "metrics.csv").open() as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def tensorboard(run):
    reader = EventAccumulator(str(run / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0})
    reader.Reload()
    return reader


@pytest.fixture(scope="module")
def mlflow(run):
    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("taut").experiment_id])
    assert found.info.run_id == (run / "mlflow" / "id").read_text().strip()
    return SimpleNamespace(client=client, run=found, id=found.info.run_id)


@pytest.fixture(scope="module")
def wandb(run):
    """The records of W&B, in their order: all entries, by their kinds."""
    records = []
    for place in sorted((run.parent / "wandb").glob("offline-run-*")):
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(place)],
            env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
            capture_output=True,
            check=True,
        )
        records.append([json.loads(line) for line in done.stdout.splitlines()])
    return records


def of_kind(record, kind):
    return [entry[kind] for entry in record if entry["type"] == kind]


def history(records):
    return [item["item"] for record in records for item in of_kind(record, "history")]


def summary(record):
    merged = {}
    for part in of_kind(record, "summary"):
        merged |= part["update"]
    return merged


@pytest.mark.parametrize("name", SCORES)
def test_the_numbers_are_those_of_the_metrics_file(rows, tensorboard, mlflow, wandb, name):
    expected = [row[name] for row in rows]
    assert len(expected) == 3
    assert [np.float32(event.value) for event in tensorboard.Scalars(name)] == [np.float32(v) for v in expected]
    points = sorted(mlflow.client.get_metric_history(mlflow.id, name), key=lambda point: point.step)
    assert [point.value for point in points] == expected
    assert [row[name] for row in history(wandb) if name in row] == expected
    steps = [row["trainer/global_step"] for row in history(wandb) if name in row]
    assert [point.step for point in points] == [event.step for event in tensorboard.Scalars(name)] == steps
    assert steps == sorted(set(steps)), "a step went backwards"


def test_a_number_of_the_table_that_was_logged_is_not_logged_again(tensorboard, mlflow):
    steps = [event.step for event in tensorboard.Scalars("test/elbo")]
    assert steps == [point.step for point in mlflow.client.get_metric_history(mlflow.id, "test/elbo")]
    assert len(steps) == len(set(steps)) == 2, "each training was tested once"


def test_all_loggers_have_the_same_names(run, tensorboard, mlflow, wandb):
    ours = set(mlflow.run.data.metrics)
    assert ours == set(tensorboard.Tags()["scalars"])
    of_wandb_alone = ("_", "pictures/", "trainer/", "tables/", "curve/")
    numbers = {name for record in wandb for name in summary(record) if not name.startswith(of_wandb_alone)}
    said = ("/kind", "/doubts", "/said", "failure")
    words = {name for name in numbers if name.endswith(said)}
    assert "failure" in words
    assert ours == numbers - words
    assert words == {name for name in mlflow.run.data.tags if name.endswith(said)}
    with (run / "plain" / "version_0" / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {*SCORES, "test/elbo", "test/elbo/standard_error"} <= columns <= {*ours, "step"}


def test_the_pictures_are_those_of_the_run_folder(run, tensorboard, mlflow, wandb):
    expected = {f"pictures/{path.stem}" for path in (run / "figures").glob("*.png")}
    expected |= {f"pictures/evaluation/test/{path.stem}" for path in (run / "evaluation" / "figures").glob("*.png")}
    assert len(expected) > 5
    assert set(tensorboard.Tags()["images"]) == expected
    stored = {file.path.split("+")[0] for file in mlflow.client.list_artifacts(mlflow.id, "images")}
    assert stored == {f"images/{name.replace('/', '~')}" for name in expected}
    assert {name.split(".")[0] for row in history(wandb) for name in row if name.startswith("pictures/")} == expected


def test_the_settings_are_those_of_the_run_as_it_stands(run, tensorboard, mlflow, wandb):
    params, tags = mlflow.run.data.params, mlflow.run.data.tags
    assert (params["k"], params["optimizer/lr"], params["trainer/max_epochs"]) == ("1", "0.001", "2")
    assert tags["resumed/trainer/max_epochs"] == "3"
    assert mlflow.run.info.run_name == "vae k=1 seed=0 digits dynamic normal diagonal"
    assert tensorboard.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    updates = [config["update"] for config in of_kind(wandb[1], "config")]
    assert [update["trainer"]["max_epochs"] for update in updates if "trainer" in update][-1] == 3


def test_what_comes_from_the_environment_stays_the_name_of_its_variable(tensorboard, mlflow, wandb):
    expected = SECRET.partition("=")[2]
    assert mlflow.run.data.params["trainer/precision"] == expected
    start = tensorboard.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert expected.encode() in start
    configs = [config["update"] for record in wandb for config in of_kind(record, "config")]
    assert {config["trainer"]["precision"] for config in configs if "trainer" in config} == {expected}


def test_a_resumed_run_goes_on_in_its_record(run, mlflow, wandb):
    assert mlflow.run.info.status == "FINISHED"
    (known,) = {of_kind(record, "run")[0]["run_id"] for record in wandb}
    assert known == (run / "wandb" / "id").read_text().strip()
    rows = [row["_step"] for row in history(wandb)]
    assert rows == sorted(set(rows)), "W&B's server drops rows of a number that it has had"


def test_the_evaluation_is_in_all_records(run, tensorboard, mlflow, wandb):
    result = json.loads((run / "evaluation" / "result.json").read_text())
    name, value = "evaluation/test/importance", result["evidence"]["importance"]["value"]
    assert mlflow.run.data.metrics[name] == value
    assert [np.float32(event.value) for event in tensorboard.Scalars(name)] == [np.float32(value)]
    assert summary(wandb[-1])[name] == value
    assert mlflow.run.data.tags[f"{name}/kind"] == summary(wandb[-1])[f"{name}/kind"] == "lower"


def test_wandb_gets_weights_tables_and_figures_as_artifacts(run, wandb):
    for record in wandb[:2]:
        artifacts = {artifact["type"]: artifact for artifact in of_kind(record, "artifact")}
        assert set(artifacts) == {"model", "results"}
        assert named(artifacts["model"]) == {"best.ckpt": str(run / "checkpoints" / "best.ckpt")}
        figures = {f"figures/{path.name}" for path in (run / "figures").iterdir()}
        assert set(named(artifacts["results"])) == {"result.json", "metrics.csv", *figures}


def named(artifact):
    """The files of an artifact, and where they lie."""
    return {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}


def test_mlflow_has_the_tables(run, mlflow):
    for name in ("result.json", "metrics.csv"):
        place = mlflow.client.download_artifacts(mlflow.id, name)
        with open(place, "rb") as file:
            assert file.read() == (run / name).read_bytes()
    assert not (run.parent.parent / "mlruns").exists()


def test_tensorboard_drops_what_a_killed_run_did_after_its_checkpoint(tmp_path):
    for first, steps in ((0.0, range(6)), (10.0, range(3, 5))):
        logger = TensorBoard(tmp_path)
        for step in steps:
            logger.log_metrics({"val/bound": first + step}, step)
        logger.finalize("success")
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    assert [(e.step, e.value) for e in reader.Scalars("val/bound")] == [(0, 0), (1, 1), (2, 2), (3, 13), (4, 14)]
