"""What is read of runs: also while they are written, damaged or hostile."""

import fcntl
import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
from made_runs import config, evaluation, result, status, table, write_run, write_sweep

from taut.commands.sweep.plan import Plan
from taut.config.secrets import redacted_by_name
from taut.errors import UserError
from taut.report.rank.candidates import score_sets
from taut.report.read.configs import differing, flat
from taut.report.read.files import LARGEST, Reader
from taut.report.read.runs import find, names_of, read_run
from taut.report.tables.sections import section, state_cells
from taut.training.callbacks import history

DEEP = "[" * 100_000 + "]" * 100_000
WRONG = [None, [], {}, "x", [[1]], {"value": "x"}, float("nan"), float("inf"), -1, 10**400, True, "1e5", {"value": 3}]


def _paths(value, path=()):
    """Every place in nested JSON."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from _paths(part, (*path, key))


def _changed(value, path, wrong):
    made = deepcopy(value)
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    return made


def _told(run):
    """Everything the report computes of a run, so that what cannot be handled raises."""
    state_cells(run)
    return [section(scores, {id(run): 0}, names_of([run])) for scores in score_sets([run])]


@pytest.mark.parametrize("name", ["result.json", "evaluation/result.json", "status.json"])
def test_wrong_types_anywhere_are_survived(name, tmp_path):
    values, gaps = [-24.0, -25.0, -26.0], [0.5, 0.6, 0.7]
    folder = write_run(tmp_path / "run", result(), found=(evaluation(values, gaps), table(values, gaps)))
    (folder / "status.json").write_text(json.dumps(status()))
    sound = json.loads((folder / name).read_text())
    for path in _paths(sound):
        for wrong in WRONG:
            (folder / name).write_text(json.dumps(_changed(sound, path, wrong)))
            _told(read_run(folder))


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"scores": {"elbo"', "[1, 2]", "null", DEEP, "\x00\xff", '{"k": 1' + "0" * 5000 + "}"],
    ids=range(8),
)
@pytest.mark.parametrize(
    "name",
    [
        "result.json",
        "evaluation/result.json",
        "status.json",
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        "metrics.csv",
    ],
)
def test_damaged_files_are_named_and_survived(name, text, tmp_path):
    folder = write_run(
        tmp_path / "run", result(), found=(evaluation([1.0, 2.0], [0.5, 0.5]), table([1.0, 2.0], [0.5, 0.5]))
    )
    (folder / name).write_text(text)
    run = read_run(folder)
    _told(run)
    if text in ("{", '{"scores": {"elbo"', DEEP) and name.endswith("json"):
        assert [problem for problem in run.problems if problem.startswith(name)]


@pytest.mark.parametrize("text", ['"[" * 9', "- " * 90_000, "{a: " * 5000, "a: &x [1]\nb: *x\n"])
def test_yaml_that_nests_or_repeats_without_end_is_not_built(text, tmp_path):
    (tmp_path / "c.yaml").write_text("[" * 90_000 if text.startswith('"') else text)
    reader = Reader(tmp_path)
    assert reader.yaml("c.yaml") == {}
    assert reader.problems == ["c.yaml is not readable YAML"]


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    reader = Reader(tmp_path)
    assert reader.mapping("result.json") == {}
    assert "larger than" in reader.problems[0]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    assert read_run(tmp_path).state == "unfinished"


@pytest.mark.parametrize("cut", [0, 1, 9, 40])
def test_metrics_are_read_as_the_trainer_reads_them(cut, tmp_path):
    folder = write_run(tmp_path / "run", result(), epochs=5)
    path = folder / "metrics.csv"
    text = path.read_text()
    path.write_text(text[: len(text) - cut])
    assert list(read_run(folder).history) == history.read(path)
    assert len(read_run(folder).history) < 5 if cut else True


def test_a_cell_that_is_no_number_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,val/gap\n0,1.5\n1,nan\n2,x\n3,2.5\n")
    assert read_run(tmp_path).history == [
        {"epoch": 0.0, "val/gap": 1.5},
        {"epoch": 1.0},
        {"epoch": 2.0},
        {"epoch": 3.0, "val/gap": 2.5},
    ]


def test_states_of_a_sweep(tmp_path):
    sweep = write_sweep(
        tmp_path / "s",
        {
            "000_done": {"made": result()},
            "001_raised": {"status": status("failed", reason="ValueError: no"), "epochs": 0},
            "002_runs": {"status": status("running")},
            "003_gone": {"status": status("running")},
            "004_waits": None,
            "005_again": {"status": status("queued", reason="stopped with the sweep")},
            "006_cut": {},
        },
    )
    (sweep / "006_cut" / "status.json").write_text('{"state": "fin')
    with (sweep / "002_runs" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [read_run(place.folder, place.words, job=True) for place in find([sweep]).runs]
    states = ["finished", "failed", "running", "interrupted", "queued", "queued", "unknown"]
    assert [run.state for run in runs] == states
    assert runs[1].reason == "ValueError: no"
    assert "gone" in runs[3].reason
    assert runs[4].about == {"k": "4"}, "what waits is told by its words"
    assert runs[6].problems == ["status.json is not whole JSON"]


def test_looking_at_a_run_does_not_keep_its_lock(tmp_path):
    sweep = write_sweep(tmp_path / "s", {"000": {"status": status("running")}})
    read_run(sweep / "000")
    with (sweep / "000" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_runs_are_found_in_folders_of_folders_once(tmp_path):
    write_sweep(tmp_path / "outputs" / "sweeps" / "s", {"000": {"made": result()}, "001": None})
    run = write_run(
        tmp_path / "outputs" / "runs" / "r", result(), found=(evaluation([1.0], [0.1]), table([1.0], [0.1]))
    )
    (tmp_path / "outputs" / "wandb" / "x").mkdir(parents=True)
    (tmp_path / "outputs" / "wandb" / "x" / "result.json").touch()
    found = find([tmp_path / "outputs", run, tmp_path / "outputs"])
    assert [place.folder.name for place in found.runs] == ["r", "000", "001"]
    assert [folder.name for folder in found.sweeps] == ["s"]


def test_a_damaged_plan_leaves_its_jobs(tmp_path):
    sweep = write_sweep(tmp_path / "s", {"000": {"made": result()}, "001": {"made": result()}})
    (sweep / "sweep.json").write_text('{"name": "s", "memb')
    found = find([sweep])
    assert [place.folder.name for place in found.runs] == ["000", "001"]
    assert found.problems == ["s/sweep.json is not whole JSON"]


def test_a_plan_leads_nowhere_else(tmp_path):
    write_run(tmp_path / "secret", result())
    sweep = write_sweep(tmp_path / "s", {"000": {"made": result()}})
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["jobs"] += [
        {"folder": "../secret"},
        {"folder": str(tmp_path / "secret")},
        {"folder": ".."},
        "x",
        {"folder": 3},
    ]
    (sweep / "sweep.json").write_text(json.dumps(plan))
    assert {place.folder.parent for place in find([sweep]).runs} == {sweep}


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_folder_without_runs_is_refused(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=name):
        find([tmp_path / name])


def test_a_config_is_flat_and_without_secrets():
    made = {
        "logger": {"api_key": "CANARY", "url": "https://me:CANARY@host/x", "more": [{"token": "CANARY"}, {"n": 1}]},
        "password": {"deep": "CANARY"},
        "secrets": ["CANARY"],
        "lr": 0.001,
        "betas": [0.9, None, True],
        "home": "${oc.env:HOME}",
    }
    assert flat(made) == {
        "logger.api_key": "hidden",
        "logger.url": "https://hidden@host/x",
        "logger.more.0.token": "hidden",
        "logger.more.1.n": "1",
        "password": "hidden",
        "secrets": "hidden",
        "lr": "0.001",
        "betas": "[0.9, null, true]",
        "home": "${oc.env:HOME}",
    }


@pytest.mark.parametrize(
    "text",
    [
        "logger.api_key=CANARY",
        "'WANDB_API_KEY': 'CANARY x'",
        "password: CANARY",
        "http://u:CANARY@h",
        "my-token = CANARY,",
    ],
)
def test_secrets_in_words_and_logs_are_hidden(text):
    assert "CANARY" not in redacted_by_name(f"before {text} after")
    assert redacted_by_name(f"before {text} after").startswith("before ")


def test_only_what_differs_is_told():
    assert differing([flat(config(1)), flat(config(5))]) == {"k": ["1", "5"]}
    assert differing([{"a": "1"}, {}]) == {"a": ["1", ""]}


def test_pictures_that_are_none_are_left_out(tmp_path):
    from taut.report.page.plots import pictures

    folder = write_run(tmp_path / "run", result(), picture=True)
    for name, content in {"cut": (folder / "figures" / "images_test.png").read_bytes()[:60], "text": b"hello"}.items():
        (folder / "figures" / f"{name}.png").write_bytes(content)
    (folder / "figures" / "away.png").symlink_to("/etc/passwd")
    assert [kind.name for kind in pictures([read_run(folder)], [0])] == ["images test"]


def test_a_huge_picture_is_made_smaller(tmp_path):
    from PIL import Image

    from taut.report.page.plots import WIDEST, pictures

    folder = write_run(tmp_path / "run", result(), picture=True)
    Image.effect_noise((3000, 900), 80).save(folder / "figures" / "images_test.png")
    uri = pictures([read_run(folder)], [0])[0].pictures[0].uri
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < WIDEST * 900


def test_the_log_shown_is_its_end(tmp_path):
    (tmp_path / "log.txt").write_text("".join(f"line {i}\n" for i in range(10_000)))
    tail = Reader(tmp_path).tail("log.txt")
    assert tail.endswith("line 9999\n")
    assert tail.startswith("line ")
    assert len(tail) < 10_000
    assert Reader(Path("/nowhere")).tail("log.txt") == ""


def test_an_evaluation_of_other_weights_than_the_test_is_doubted(tmp_path):
    """A run that was evaluated, resumed and tested again: its evaluation is of weights that it no longer ends with."""
    for name, step, doubted in (("same", 400, False), ("other", 40, True), ("unknown", None, False)):
        found = evaluation([1.0, 2.0], [0.5, 0.5], checkpoint={"step": step}), table([1.0, 2.0], [0.5, 0.5])
        run = read_run(write_run(tmp_path / name, result(checkpoint={"step": 400}), found=found))
        (scores,) = run.evaluations.values()
        assert ("evaluate it again" in " ".join(scores.reliability_warnings)) == doubted, name


def test_a_plan_written_when_jobs_were_members_is_read(tmp_path):
    sweep = write_sweep(tmp_path / "s", {"000": None, "001": None})
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["members"] = plan.pop("jobs")
    (sweep / "sweep.json").write_text(json.dumps(plan))
    assert [place.folder.name for place in find([sweep]).runs] == ["000", "001"]
    known = Plan.read(sweep)
    assert known is not None
    assert [job.folder for job in known.jobs] == ["000", "001"]
