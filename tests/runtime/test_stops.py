"""SIGTERM at any moment: exit code 143, nothing damaged, and a run that goes on to the same bits."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from taut.config.resume import is_run
from taut.training.callbacks import history
from taut.training.checkpoint import newest_good

ROOT = Path(__file__).resolve().parents[2]
RUN = ["callbacks=none", "threads=1", "k_eval=4", "k_test=4", "model=vae", "network.hidden=[8]"]
RUN += ["trainer.max_epochs=3", "data.batch_size=200", "trainer.enable_progress_bar=false"]
WORLDS = {1: [], 2: ["strategy=ddp_cpu"]}
PLACES = ["data 1", "model 1", "start 1", "batch 1", "batch 8", "validation 3", "save 3", "between 1", "test 1"]
PLACES += ["result 1", "publish 1"]


def ends(folder):
    """What a run ended in, bit for bit: file and content of its newest checkpoint, scores, history without timings."""
    path = newest_good(folder / "checkpoints")
    checkpoint = torch.load(path)
    tensors = dict(checkpoint["state_dict"])
    for index, state in checkpoint["optimizer_states"][0]["state"].items():
        tensors |= {f"{index}/{name}": torch.as_tensor(value) for name, value in state.items()}
    rows = [
        {name: row[name] for name in row if name.startswith(("train/", "val/"))}
        for row in history.read(folder / history.NAME)
    ]
    scores = json.loads((folder / "result.json").read_text())["scores"]
    return path.name, {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, scores, rows


@pytest.fixture(scope="module", params=WORLDS)
def whole(request, faulty_train, tmp_path_factory):
    """A command, what it ends in undisturbed, and the folder for its runs."""
    folder = tmp_path_factory.mktemp(f"of{request.param}")
    words = [*RUN, "logger=csv", *WORLDS[request.param]]
    done = faulty_train.run(folder, *words, "hydra.run.dir=whole")
    assert done.code == 0, done.said
    return request.param, words, ends(folder / "whole"), folder


def _go_on(faulty_train, folder, words, name):
    again = [f"resume={name}"] if is_run(folder / name) else [*words, f"hydra.run.dir={name}"]
    done = faulty_train.run(folder, *again)
    assert done.code == 0, done.said


@pytest.mark.parametrize("whole", [1], indirect=True)
def test_sigterm_at_every_phase(whole, faulty_train):
    _, words, expected, folder = whole
    for place in PLACES:
        name = place.replace(" ", "")
        struck = faulty_train.run(folder, *words, f"hydra.run.dir={name}", fault=f"0 {place} SIGTERM")
        assert struck.code == 143, (place, struck.said)
        assert "Traceback" not in struck.said, place
        _go_on(faulty_train, folder, words, name)
        assert ends(folder / name) == expected, place


@pytest.mark.parametrize("warning", ["SIGUSR1", "SIGUSR2"])
def test_slurm_s_warning_stops_as_sigterm_does(faulty_train, tmp_path, warning):
    struck = faulty_train.run(tmp_path, *RUN, "logger=csv", "hydra.run.dir=run", fault=f"0 batch 4 {warning}")
    assert struck.code == 143
    assert newest_good(tmp_path / "run" / "checkpoints").name.startswith("interrupted")


def test_killed_processes_go_on_to_the_same_bits(whole, faulty_train):
    """SIGKILL to the first of them within an epoch, which the others do not outlive."""
    _, words, expected, folder = whole
    struck = faulty_train.run(folder, *words, "hydra.run.dir=killed", fault="0 batch 9 SIGKILL")
    assert struck.code == -9
    _go_on(faulty_train, folder, words, "killed")
    assert ends(folder / "killed") == expected


@pytest.mark.parametrize("seconds", [0.4, 2.0])
def test_sigterm_while_the_command_imports(programs, seconds, tmp_path):
    command = [sys.executable, ROOT / "train.py", *RUN, "logger=csv", "hydra.run.dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    # the interpreter itself has no handler yet: a shell says 143 of that as well
    assert process.returncode == 143 or (process.returncode == -signal.SIGTERM and not said), said
    assert "Traceback" not in said


def test_wandb_says_how_a_stopped_run_ended(programs, whole, faulty_train, tmp_path):
    _, words, expected, _ = whole
    struck = faulty_train.run(tmp_path, *words, "logger=wandb", "hydra.run.dir=run", fault="0 batch 8 SIGTERM")
    assert struck.code == 143, struck.said
    assert _exit_codes(tmp_path) == [143]
    _go_on(faulty_train, tmp_path, words, "run")
    assert sorted(_exit_codes(tmp_path)) == [0, 143]
    assert ends(tmp_path / "run") == expected


def _exit_codes(folder):
    """Of the offline W&B runs in a folder, by W&B's own reader."""
    codes = []
    for run in sorted(folder.rglob("offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        codes += [json.loads(line)["exit"]["exit_code"] for line in said.splitlines() if '"type":"exit"' in line]
    return codes
