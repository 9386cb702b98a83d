"""A run that is killed and resumed, however often, ends bit for bit where an unkilled one ends."""

import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from taut.config.program import conf
from taut.config.resume import Past, is_run, unchanged_config
from taut.config.run_folder import CONFIG, FORMAT, FORMAT_FILE
from taut.errors import UserError
from taut.training.checkpoint import newest_good

ROOT = Path(__file__).resolve().parents[2]
TIMINGS = ("seconds", "speed/rows_per_second", "speed/val_rows_per_second")
COMMON = ["logger=csv", "callbacks=none", "threads=1", "k_eval=4", "k_test=8"]
MODELS = {
    "vae": "model=vae trainer.max_epochs=12 data.batch_size=40 network.hidden=[30]",
    "em": "model=mog data=faithful model.components=3 trainer.max_epochs=60 objective.tolerance=0",
    "exact": "model=mog data=faithful model.components=3 objective=exact data.batch_size=30 trainer.max_epochs=20",
}


@pytest.fixture(scope="module")
def train(commands):
    return Train(commands)


class Train:
    """Runs ``train.py`` in a folder; all it says goes to a file there."""

    def __init__(self, commands):
        self.commands = commands

    def start(self, folder, *words):
        with (folder / "log").open("a") as log:
            return self.commands.start(ROOT / "train.py", *words, cwd=folder, stdout=log, stderr=log)

    def run(self, folder, *words):
        return self.start(folder, *words).wait()


def weights(folder):
    """SHA-256 of the final parameters and of the optimiser's state, and the file they are from."""
    path = newest_good(folder / "checkpoints")
    checkpoint = torch.load(path)
    sha = hashlib.sha256()
    for name, tensor in checkpoint["state_dict"].items():
        sha.update(name.encode() + tensor.numpy().tobytes())
    for index, state in checkpoint["optimizer_states"][0]["state"].items():
        for name, tensor in state.items():
            sha.update(f"{index}{name}".encode() + torch.as_tensor(tensor).numpy().tobytes())
    return path.name, sha.hexdigest()


def history(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def scores(folder):
    return json.loads((folder / "result.json").read_text())["scores"]


def epochs(folder):
    path = folder / "metrics.csv"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


@pytest.fixture(scope="module", params=MODELS)
def unkilled(request, train, tmp_path_factory):
    """A model's command, its folder after an undisturbed run, and the seconds that took."""
    folder = tmp_path_factory.mktemp(request.param)
    words = (*COMMON, *MODELS[request.param].split())
    started = time.monotonic()
    assert train.run(folder, *words, "hydra.run.dir=whole") == 0, (folder / "log").read_text()
    return words, folder, time.monotonic() - started


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT, signal.SIGTERM]], ids=["kill", "stop"])
def test_resumed_run_is_bit_identical(unkilled, train, signals):
    words, folder, seconds = unkilled
    name = f"cut{signals[0]}"
    clock, moments, codes = random.Random(1), [], []
    command = (*words, f"hydra.run.dir={name}")
    for number in signals * (4 // len(signals)):
        before = epochs(folder / name)
        process = train.start(folder, *command)
        wanted = before + clock.randrange(3)
        while epochs(folder / name) < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(clock.uniform(0, 0.15 * seconds))
        process.send_signal(number)
        codes.append(process.wait())
        moments.append(epochs(folder / name))
        if is_run(folder / name):
            command = (f"resume={name}",)
        if codes[-1] == 0:
            break
    assert {-9: "kill", 130: "Ctrl-C", 143: "SIGTERM"}.keys() >= set(codes) - {0}
    assert len([code for code in codes if code]) >= 2, f"the kills came too late: {codes} {moments}"
    assert train.run(folder, *command) == 0, (folder / "log").read_text()[-2000:]
    whole, cut = folder / "whole", folder / name
    assert weights(cut) == weights(whole)
    assert scores(cut) == scores(whole)
    assert history(cut) == history(whole)
    kept = [path.name for path in (cut / "checkpoints").glob("*.ckpt") if "recent" in path.name]
    assert len(kept) == 2
    assert not list((cut / "checkpoints").glob("interrupted*"))
    assert "Traceback" not in (folder / "log").read_text()


def test_a_damaged_newest_checkpoint_costs_one_epoch_and_nothing_else(train, tmp_path):
    words = (*COMMON, *MODELS["vae"].split())
    assert train.run(tmp_path, *words, "trainer.max_epochs=5", "hydra.run.dir=whole") == 0
    assert train.run(tmp_path, *words, "trainer.max_epochs=3", "hydra.run.dir=cut") == 0
    newest = newest_good(tmp_path / "cut" / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert train.run(tmp_path, "resume=cut", "trainer.max_epochs=5") == 0
    assert "is damaged" in (tmp_path / "log").read_text()
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_moved_run_goes_on_and_so_does_one_with_another_model_not(train, tmp_path):
    words = (*COMMON, *MODELS["vae"].split())
    assert train.run(tmp_path, *words, "trainer.max_epochs=2", "hydra.run.dir=here") == 0
    (tmp_path / "here").rename(tmp_path / "there")
    assert train.run(tmp_path, "resume=there", "network.hidden=[31]") == 2
    assert "network.hidden=[31] would make it another run" in (tmp_path / "log").read_text().splitlines()[-1]
    assert train.run(tmp_path, "resume=there", "trainer.max_epochs=3") == 0
    assert not (tmp_path / "here").exists()
    assert len(list((tmp_path / "there" / "checkpoints").glob("*.ckpt"))) == 3


def test_the_real_command_stops_on_ctrl_c(programs, tmp_path):
    words = [*COMMON, *MODELS["vae"].split(), "trainer.max_epochs=100000", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while epochs(tmp_path / "run") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith(f"python {ROOT / 'train.py'} resume=run")
    assert newest_good(tmp_path / "run" / "checkpoints") is not None


@pytest.fixture
def continued(tmp_path):
    """The config by which a run goes on whose stored one lacks a key, and the one that its words compose today."""
    with initialize_config_dir(str(conf()), version_base="1.3"):

        def of_train(words):
            return compose("train", words)

        def continued(*words, without, format_=FORMAT):
            then = of_train(list(words))
            OmegaConf.set_struct(then, False)
            group, _, leaf = without.rpartition(".")
            del (OmegaConf.select(then, group) if group else then)[leaf]
            (tmp_path / CONFIG).parent.mkdir()
            OmegaConf.save(then, tmp_path / CONFIG)
            (tmp_path / FORMAT_FILE).write_text(json.dumps({"format": format_}))
            return unchanged_config(Past(tmp_path, list(words), [], []), of_train), of_train(list(words))

        yield continued


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("", "layers"),  # null
        ("", "lr_find"),  # false
        ("", "data.dequantise"),  # an argument, null by default
        ("objective=iwae k=5", "objective.outer"),  # 1
        ("objective=iwae k=5", "objective.backward"),  # what a continuation may say anew
        ("", "callbacks.speed"),
        ("", "trainer.deterministic"),
    ],
)
def test_a_key_that_taut_has_gained_makes_no_run_foreign(continued, words, without):
    """A run made before there was layers= was refused: what it lacks is done today as it was done then."""
    going_on, today = continued(*words.split(), without=without)
    assert going_on == today


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("layers=[10,5] prior=layers prior.sizes=${layers} q=layers", "layers"),
        ("data=mnist data.binarisation=none data.dequantise=uniform", "data.dequantise"),
        ("prior=mixture", "prior.components"),
        ("objective=iwae k=6 objective.outer=2", "objective.outer"),
        ("", "latent_dim"),
        ("", "callbacks.best"),
    ],
)
def test_a_key_whose_value_changes_what_is_trained_does(continued, words, without):
    with pytest.raises(UserError, match=f"{without} is no longer what it was; restore them, or start a new run"):
        continued(*words.split(), without=without)


def test_what_a_run_of_an_older_format_lacks_is_as_it_was(continued):
    going_on, today = continued(without="latent_dim", format_=FORMAT - 1)
    assert going_on == today
