"""W&B offline: complete, readable, closed, and without a word to the network."""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from taut.errors import UserError
from taut.training import loggers

CANARY = "canary-4711"

JOBS = """
import json, sys
from pathlib import Path

calls = []
sys.addaudithook(lambda event, args: calls.append((event, str(args))) if event in (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname") else None)

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from taut.training import loggers

root, conf = map(Path, sys.argv[1:])

def job(name, *overrides):
    cfg = compose("train", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return loggers.build(cfg, root / name)

with initialize_config_dir(str(conf), version_base="1.3"):
    assert job("csv", "logger=csv") == []
    for name in ("wandb", "tensorboard", "mlflow", "sqlalchemy"):
        assert name not in sys.modules, f"logger=csv imported {name}"
    try:
        first = job("first", "k=7", "+data.note=${oc.env:CANARY}", "+data.api_key=canary-4711")
        with loggers.finishing(first):
            for epoch, bound in enumerate((-9.0, -3.0, -5.0)):
                scores = {"val/bound": bound, "val/gap": 4.0 - epoch, "val/ess": 1.0}
                first[0].log_metrics({"epoch": epoch, **scores}, step=10 * epoch)
            raise RuntimeError("diverged")
    except RuntimeError:
        pass
    second = job("second", "seed=3", "model=iwae", "sweep.name=study")
    with loggers.finishing(second):
        second[0].log_metrics({"epoch": 0, "val/bound": -1.0}, step=1)
        score = {"value": -2.5, "standard_error": 0.25, "kind": "lower"}
        loggers.summarise(second, {"scores": {"elbo": score}, "seconds": {"fit": 1.5}}, root / "second")

print(json.dumps([call for call in calls if "AF_UNIX" not in call[1] and "/" not in call[1]]))
"""


class Listener(threading.Thread):
    """A proxy that counts who calls."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.calls = 0

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()


@pytest.fixture(scope="module")
def jobs(programs, tmp_path_factory):
    """Two jobs of one process, the first of which fails: folder, calls seen by Python and by the proxy."""
    root = tmp_path_factory.mktemp("jobs")
    listener = Listener()
    listener.start()
    proxy = f"http://127.0.0.1:{listener.port}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    proxies = {name: proxy for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")}
    quiet = {"NO_PROXY": "", "no_proxy": "", "HOME": str(root), "CANARY": CANARY}
    done = subprocess.run(
        [sys.executable, "-c", JOBS, str(root), str(Path(__file__).parents[2] / "conf")],
        env={**clean, **proxies, **quiet},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    listener.socket.close()
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1]), listener.calls, done.stdout + done.stderr


def summary_of(folder):
    (run,) = (folder / "wandb").glob("offline-run-*")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(run)],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_nobody_is_called(jobs):
    _, python, proxy, said = jobs
    assert python == []
    assert proxy == 0
    assert "wandb" not in said


def test_a_failed_run_reads_back_whole(jobs):
    run = summary_of(jobs[0] / "first")
    assert run["name"] == "vae k=7 seed=0 digits dynamic normal diagonal"
    assert run["exit_code"] == 1
    assert run["summary"]["failure"] == "RuntimeError: diverged"
    assert run["summary"]["val/bound"] == {"max": -3, "last": -5}
    assert run["summary"]["val/gap"] == {"min": 2, "last": 2}
    assert run["summary"]["val/ess"] == {"max": 1, "last": 1}
    assert run["config"]["k"] == 7
    assert run["config"]["data"]["batch_size"] == 100


def test_the_next_job_has_a_run_of_its_own(jobs):
    run = summary_of(jobs[0] / "second")
    assert run["exit_code"] == 0
    assert run["name"].startswith("iwae ")
    assert run["summary"]["val/bound"]["max"] == -1
    assert run["summary"]["test/elbo"] == -2.5
    assert run["summary"]["test/elbo/standard_error"] == 0.25
    assert run["summary"]["seconds/fit"] == 1.5
    assert run["summary"]["failure"] == "none"
    assert run["run_id"] == (jobs[0] / "second" / "wandb" / "id").read_text().strip()


def test_secrets_stay_out(jobs):
    config = summary_of(jobs[0] / "first")["config"]["data"]
    assert (config["note"], config["api_key"]) == ("${oc.env:CANARY}", "hidden")
    files = [path for path in jobs[0].rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_sweep_is_a_group(jobs):
    (file,) = (jobs[0] / "second").glob("wandb/offline-run-*/run-*.wandb")
    assert b"study" in file.read_bytes()


def test_a_resumed_folder_keeps_its_run(tmp_path):
    about = ("vae digits k=1 seed=0", None)
    assert loggers.run_id(tmp_path / "a", *about) == loggers.run_id(tmp_path / "a", *about)
    assert loggers.run_id(tmp_path / "a", *about) != loggers.run_id(tmp_path / "b", *about)


def test_the_name_of_a_record_shows_model_k_and_seed_first(tmp_path):
    """Lists of records, such as those of ``wandb leet``, cut long names at the end."""
    found = loggers.run_id(tmp_path, "iwae k=50 seed=3 digits dynamic normal diagonal", None)
    assert found.startswith("iwae-k50-s3-digits-dynamic-normal-diagonal-")


@pytest.fixture
def about(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # what the code sets is undone with the rest
    return {"folder": tmp_path, "name": "x", "group": None, "config": {}}


def test_an_unknown_mode_is_refused(about):
    with pytest.raises(UserError, match=r"logger.mode=dryrun is not known; choose offline or online"):
        loggers.wandb_logger(**about, mode="dryrun")


def test_online_without_a_key_is_one_sentence_and_no_prompt(about, monkeypatch):
    monkeypatch.setattr("taut.training.loggers.opening.has_key", lambda: False)
    with pytest.raises(UserError, match="needs a W&B API key and none was found"):
        loggers.wandb_logger(**about, mode="online")
    assert list(about["folder"].iterdir()) == []


def test_lists_and_interpolations_come_out_plain():
    cfg = OmegaConf.create({"a": [1, {"token": "t"}], "b": "${a}", "c": {"password": None}})
    assert loggers.public(cfg) == {
        "a": [1, {"token": "hidden"}],
        "b": [1, {"token": "hidden"}],
        "c": {"password": None},
    }


def test_lightning_says_warnings_and_nothing_less():
    loggers.quiet()
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
        logger = logging.getLogger(name)
        assert not logger.isEnabledFor(logging.INFO)
        assert logger.isEnabledFor(logging.WARNING)


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError(), 1), (KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit(0), 1)],
)
def test_the_exit_code_says_what_ended_the_run(monkeypatch, error, code):
    codes = []
    monkeypatch.setattr("taut.training.loggers.records.finish", codes.append)
    with pytest.raises(type(error)), loggers.finishing([]):
        raise error
    with loggers.finishing([]):
        pass
    assert codes == [code, 0]
