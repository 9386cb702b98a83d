"""Runs that look for faults: what each does, where it is written, and that it is never taken for a result."""

import json
from pathlib import Path

import pytest
from evaluations import VAE, command
from jobs import composed

from taut.commands.report import main as report
from taut.report.read.runs import read_run

pytestmark = pytest.mark.usefixtures("command_in_process")
LOGGED = [word for word in VAE if word not in ("logger=csv", "trainer.max_epochs=1")]


def test_fdr_keeps_nothing(trainings):
    """A description of the run, an empty folder or the id of a W&B record that does not exist would stay."""
    done = command("train", "debug=fdr", *LOGGED)
    assert (done.code, list(Path().iterdir())) == (0, [])
    lines = done.out.splitlines()
    assert lines[0] == "debug=fdr: One batch through training, validation and test; nothing is kept."
    assert lines[-1] == "fast_dev_run: training, validation and test went through; nothing was kept."
    assert "run folder" not in done.out


def test_fdr_leaves_a_folder_that_was_there_as_it_was(trainings):
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("x")
    assert command("train", "debug=fdr", "hydra.run.dir=mine", *LOGGED).code == 0
    # the lock that every command that trains in a folder leaves
    assert {str(path) for path in Path().rglob("*")} - {"mine/.writer", "mine/train.log"} == {"mine", "mine/notes.txt"}


def test_overfit_shows_that_a_model_learns_and_is_no_result(trainings, capsys):
    """Listed among results, its bound of one batch would be the best of all."""
    done = command("train", "debug=overfit", "optimizer.lr=0.01", *LOGGED)
    assert done.code == 0, done.err
    (folder,) = Path("outputs/debug").iterdir()
    assert f"\nrun folder: {folder}\n" in done.out
    result = json.loads((folder / "result.json").read_text())
    said = "debug=overfit looks for faults: these numbers are no results, and are not ranked"
    assert (result["debug"], result["partial"][-1], result["epochs"]) == ("overfit", said, 200)
    assert json.loads((folder / "run.json").read_text())["debug"] == "overfit"
    start, end = (float(word) for word in done.out.splitlines()[-1].split() if word.startswith("-"))
    assert end > start + 1
    (folder / "result.json").unlink()  # what a run that was stopped lacks
    for left in (read_run(folder), read_run(folder, job=True)):
        assert (left.state, left.scored, left.validation) == ("debug", False, None)
    (folder / "result.json").write_text(json.dumps(result))
    capsys.readouterr()
    assert report([str(folder)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 run: 1 debug" in shown
    assert "debug=overfit looks for faults: its numbers are no results, and are not ranked" in shown
    assert "log p(x)" not in shown


def test_profiler_says_where_its_report_is(trainings):
    """Lightning would log it, where nothing of Lightning's is shown."""
    done = command("train", "debug=profiler", *LOGGED, "hydra.run.dir=run")
    assert done.code == 0, done.err
    places = done.out.splitlines()[-1].removeprefix("profiler: the times are in ").split(", ")
    assert [Path(place).name for place in places] == ["fit-profile.txt", "test-profile.txt"]
    assert "run_training_batch" in Path(places[0]).read_text()


def test_detect_anomaly_is_torchs(tmp_path):
    assert composed(tmp_path, "debug=detect_anomaly").trainer.detect_anomaly is True


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("debug=fdrr", "debug=fdrr is not known; did you mean fdr?"),
        ("debug=none", "debug=none is not known; choose among detect_anomaly, fdr, overfit, profiler."),
        ("debug=[fdr,overfit]", "debug=[fdr,overfit] names several; choose one of them, or run each with -m "),
    ],
)
def test_a_word_that_is_no_choice_is_refused(word, said):
    done = command("train", word)
    assert (done.code, list(Path().iterdir())) == (2, [])
    assert done.err.startswith(said)
