"""Every record of a little sweep, read back by W&B's own reader, has what the dashboard draws."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from evaluations import command

from taut.commands.dashboard.pages import as_json, workspace
from taut.training.callbacks.history import read

WORDS = ["trainer.max_epochs=3", "k_eval=4", "k_test=20", "network.hidden=[8]", "threads=1"]
JOBS = {
    "000_vae-seed0": ["latent_dim=2", "seed=0", *WORDS],
    "001_vae-seed1": ["latent_dim=2", "seed=1", *WORDS],
    "002_mog": ["model=mog", "data=faithful", *WORDS],
}
SMALL = [
    "experiment=gap",
    "k=100",
    "limit=8",
    "simulated=2",
    "gap.limit=4",
    "gap.steps=8",
    "gap.samples=2",
    "threads=1",
]
SMALL += ["evidence.ais.steps=8", "evidence.ais.chains=2", "evidence.bdmc.steps=8", "evidence.bdmc.chains=2"]
DRAWN = re.compile(r'"(?:summary:)?((?:train|val|speed|pictures|test|seconds|evaluation)/[^"]+)"')


def inspected(record: Path, *flags: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", *flags, "--json", record],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(done.stdout)] if flags else [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def records(programs, tmp_path_factory):
    """By job: the summary and the lines of the record of its training; and of an evaluation, under that name."""
    outputs = tmp_path_factory.mktemp("little") / "outputs"
    sweep = outputs / "sweeps" / "little"
    for name, words in JOBS.items():
        done = command("train", *words, f"hydra.run.dir={sweep / name}", "sweep.name=little")
        assert done.code == 0, done.err
    done = command("evaluate", f"run={sweep / '000_vae-seed0'}", *SMALL)
    assert done.code == 0, done.err
    found = {}
    for record in sorted((outputs / "wandb").glob("offline-run-*")):
        (summary,) = inspected(record, "--summary")
        job = next(name for name in JOBS if name in record.name)
        name = "evaluation" if job in found else job
        found[name] = (summary, inspected(record), record)
    return sweep, found


def series(lines: list[dict], name: str) -> list[float]:
    items = [line["history"]["item"] for line in lines if line["type"] == "history"]
    return [item[name] for item in items if name in item]


def test_all_runs_lie_in_one_folder_under_names_that_tell_them_apart(records):
    sweep, found = records
    assert set(found) == {*JOBS, "evaluation"}
    for name in JOBS:
        summary, _, record = found[name]
        assert re.fullmatch(rf"offline-run-\d+_\d+-{name}-little-[0-9a-f]{{6}}", record.name)
        assert summary["run_id"] == (sweep / name / "wandb" / "id").read_text().strip()
        assert [path.name for path in (sweep / name / "wandb").iterdir()] == ["id"]
    assert found["evaluation"][0]["run_id"] == found["000_vae-seed0"][0]["run_id"]


@pytest.mark.parametrize("name", JOBS)
def test_a_record_has_the_series_the_summary_and_the_choices(records, name):
    sweep, found = records
    summary, lines, _ = found[name]
    rows = read(sweep / name / "metrics.csv")
    for name_of_score in ("val/gap", "val/ess", "val/bound"):
        assert series(lines, name_of_score) == pytest.approx(
            [row[name_of_score] for row in rows if name_of_score in row]
        )
    scores = summary["summary"]
    assert scores["val/bound"]["max"] == pytest.approx(max(row["val/bound"] for row in rows if "val/bound" in row))
    assert scores["val/gap"]["min"] == pytest.approx(min(row["val/gap"] for row in rows if "val/gap" in row))
    result = json.loads((sweep / name / "result.json").read_text())
    assert scores["test/gap"] == pytest.approx(result["scores"]["gap"]["value"])
    assert scores["test/gap/kind"] == scores["val/gap/kind"] == result["scores"]["gap"]["kind"]
    assert summary["exit_code"] == 0
    assert summary["config"]["choices"]["model"] == result["model"]
    assert summary["config"]["k"] == result["k"]
    (run,) = (line["run"] for line in lines if line["type"] == "run")
    assert run["run_group"] == "little"
    assert run["tags"] == [result["model"], result["data"], f"k={result['k']}"]


@pytest.mark.parametrize("name", JOBS)
def test_scores_are_drawn_against_the_epoch(records, name):
    """Steps differ between batch sizes, and pictures, validation and training would each have an axis of its own."""
    _, lines, _ = records[1][name]
    metrics = [line["metric"] for line in lines if line["type"] == "metric"]
    axes = {metric.get("glob_name") or metric["name"]: metric.get("step_metric") for metric in metrics}
    for section in ("train", "val", "speed", "pictures"):
        assert axes[f"{section}/*"] == "epoch"
    assert set(series(lines, "epoch")) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", JOBS)
def test_pictures_are_few_and_their_files_are_there(records, name):
    summary, lines, record = records[1][name]
    media = {key: value for key, value in summary["summary"].items() if key.startswith("pictures/")}
    assert {"pictures/history", "pictures/bound_versus_k_val", "pictures/bound_versus_k_test"} <= set(media)
    for picture in media.values():
        assert all((record / "files" / path).stat().st_size > 1000 for path in picture["filenames"])
    assert all(len(series(lines, f"{key}._type")) == 1 for key in media)


def test_every_score_and_picture_the_dashboard_draws_is_in_a_record(records):
    """A panel without data: W&B draws it empty and says nothing."""
    known = set()
    for summary, lines, _ in records[1].values():
        for key, value in summary["summary"].items():
            known |= (
                {key, *(f"{key}.{part}" for part in value if part in ("max", "min"))}
                if isinstance(value, dict)
                else {key}
            )
        known |= {key for line in lines if line["type"] == "history" for key in line["history"]["item"]}
    drawn = set(DRAWN.findall(json.dumps(as_json(workspace("me", "taut", "little")))))
    assert len(drawn) > 25
    assert sorted(drawn - known) == []
