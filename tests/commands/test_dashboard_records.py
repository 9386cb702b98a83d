"""Every record of a little sweep, read back by W&B's own reader, has what the dashboard draws."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from evaluations import command

from taut.commands.dashboard import records as offline
from taut.commands.dashboard.pages import as_json, workspace
from taut.commands.dashboard.preview import preview, undrawn
from taut.commands.dashboard.sections import SECTIONS
from taut.errors import UserError
from taut.training.callbacks.history import read

WORDS = ["trainer.max_epochs=3", "k_eval=4", "k_test=100", "network.hidden=[8]", "threads=1"]
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
LATER = {"000_vae-seed0": "evaluation", "001_vae-seed1": "completion"}
"""What a second record of a job holds."""
METRIC = re.compile(r'"(?:summary:)?((?:train|val|speed|pictures|test|seconds|evaluation|curve|tables)/[^":]+)"')
SETTING = re.compile(r'"(?:c::|config:)([^":]+)"')


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
    done = command("complete", f"run={sweep / '001_vae-seed1'}", "mask=top_half", "limit=2", "k=10", "threads=1")
    assert done.code == 0, done.err
    found = {}
    for record in sorted((outputs / "wandb").glob("offline-run-*")):
        (summary,) = inspected(record, "--summary")
        job = next(name for name in JOBS if name in record.name)
        name = LATER[job] if job in found else job
        found[name] = (summary, inspected(record), record)
    return sweep, found


def series(lines: list[dict], name: str) -> list[float]:
    items = [line["history"]["item"] for line in lines if line["type"] == "history"]
    return [item[name] for item in items if name in item]


def test_all_runs_lie_in_one_folder_under_names_that_tell_them_apart(records):
    sweep, found = records
    assert set(found) == {*JOBS, "evaluation", "completion"}
    for name in JOBS:
        summary, _, record = found[name]
        assert re.fullmatch(rf"offline-run-\d+_\d+-{name}-little-[0-9a-f]{{6}}", record.name)
        assert summary["run_id"] == (sweep / name / "wandb" / "id").read_text().strip()
        assert [path.name for path in (sweep / name / "wandb").iterdir()] == ["id"]
    for job, later in LATER.items():
        assert found[later][0]["run_id"] == found[job][0]["run_id"]


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


def known_keys(found: dict) -> set[str]:
    """Every key of the summaries and the histories."""
    known = set()
    for summary, lines, _ in found.values():
        for key, value in summary["summary"].items():
            known |= (
                {key, *(f"{key}.{part}" for part in value if part in ("max", "min"))}
                if isinstance(value, dict)
                else {key}
            )
        known |= {key for line in lines if line["type"] == "history" for key in line["history"]["item"]}
    return known


@pytest.fixture(scope="module")
def page():
    return as_json(workspace("me", "taut", "little"))


def test_every_score_and_picture_the_dashboard_draws_is_in_a_record(records, page):
    """A panel without data: W&B draws it empty and says nothing."""
    drawn = set(METRIC.findall(json.dumps(page)))
    assert len(drawn) > 25
    assert sorted(drawn - known_keys(records[1])) == []


def test_every_setting_the_dashboard_draws_is_in_a_record(records, page):
    config = records[1]["000_vae-seed0"][0]["config"]
    asked = {name.replace(".value", "") for name in SETTING.findall(json.dumps(page))}
    assert {"k", "choices.model"} <= asked
    for name in asked:
        value = config
        for part in name.split("."):
            value = value[part]
        assert isinstance(value, int | str)


def test_every_column_a_chart_draws_is_in_a_table_of_a_record(records, page):
    """A chart of W&B's whose field names no column: it draws nothing and says nothing."""
    sections = page["spec"]["section"]["panelBankConfig"]["sections"]
    charts = [panel["config"] for section in sections for panel in section["panels"] if panel["viewType"] == "Vega2"]
    tables = {}
    for summary, _, record in records[1].values():
        for key, value in summary["summary"].items():
            if isinstance(value, dict) and value.get("_type") == "table-file":
                tables[key] = json.loads((record / "files" / value["path"]).read_text())
    assert len(charts) > 5
    for chart in charts:
        (query,) = chart["userQuery"]["queryFields"]
        (table,) = (one["args"][0]["value"] for one in query["fields"] if one["name"] == "summaryTable")
        assert set(chart["fieldSettings"].values()) <= set(tables[table]["columns"])
        assert tables[table]["data"]


def test_the_numbers_of_the_tables_are_those_of_the_results(records):
    """A column that holds another number than its name says."""
    sweep, _ = records
    run = next(run for run in offline.read(sweep.parents[1]) if "seed=0" in run.name and "vae" in run.name)
    tested = json.loads((sweep / "000_vae-seed0" / "result.json").read_text())
    result = json.loads((sweep / "000_vae-seed0" / "evaluation" / "result.json").read_text())
    (gap,) = run.tables["tables/gap"]
    assert (gap["gap"], gap["k"], gap["seed"]) == (tested["scores"]["gap"]["value"], tested["k"], tested["seed"])
    assert (gap["elbo"], gap["log_px"]) == tuple(tested["scores"][name]["value"] for name in ("elbo", "log_px"))
    assert gap["log_px_error"] == tested["scores"]["log_px"]["standard_error"]
    (bounds,) = run.tables["tables/evaluation/test/bounds"]
    assert (bounds["gap_low"], bounds["gap_high"]) == tuple(result["gap"][end]["value"] for end in ("low", "high"))
    assert bounds["log_px_low"] == result["evidence"][result["gap"]["lower"]]["value"]
    parts = {row["part"]: row["value"] for row in run.tables["tables/evaluation/test/gap_parts"]}
    assert parts["amortisation"] == result["apart"]["test"]["amortisation"]["value"]
    assert parts["approximation"] == result["apart"]["test"]["approximation"]["low"]["value"]
    kl = sum(row["value"] for row in run.tables["tables/evaluation/test/kl_parts"])
    assert kl == pytest.approx(result["information"]["kl"]["value"], abs=1e-9)
    khat = [row["khat"] for row in run.tables["tables/evaluation/test/khat"]]
    median = result["evidence"]["importance"]["diagnostics"]["khat"]["median"]
    assert sorted(khat)[(len(khat) - 1) // 2] == pytest.approx(median, abs=1e-9)
    assert run.summary["evaluation/test/importance/khat/untrusted"] == sum(k > 0.7 for k in khat) / len(khat)
    left = [row["curve/left"] for row in run.history if "curve/left" in row]
    assert left[0] == pytest.approx(tested["scores"]["gap"]["value"], abs=1e-9)
    assert left == sorted(left, reverse=True)


def test_every_panel_is_drawn_of_these_records(records, tmp_path):
    """A panel that the picture leaves empty, though W&B has what it draws."""
    runs = offline.read(records[0].parents[1], "little")
    assert [run.name.split()[0] for run in runs] == ["vae", "vae", "mog"]
    assert undrawn(runs) == []
    assert len(preview(runs).axes) == sum(len(section.panels) for section in SECTIONS)


def test_a_sweep_that_has_no_record_and_a_damaged_record_are_one_sentence(records, tmp_path):
    with pytest.raises(UserError, match="holds no run of sweep=other"):
        offline.read(records[0].parents[1], "other")
    with pytest.raises(UserError, match="holds no record of W&B"):
        offline.read(tmp_path)
    place = tmp_path / "offline-run-1-a"
    place.mkdir()
    (place / "run-a.wandb").write_bytes(b"no record")
    with pytest.raises(UserError, match="cannot be read by W&B"):
        offline.read(tmp_path)
