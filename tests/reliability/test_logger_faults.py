"""W&B may be absent, killed, frozen, full, refused or unreachable: the training does not notice."""

import csv
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from reliability.fake_wandb import serving

from taut.training.loggers.tracker import PARTING, PATIENCE

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults.py")
WORDS = ["trainer.max_epochs=3", "k_eval=4", "k_test=4", "network.hidden=[8]", "latent_dim=2", "threads=1"]
WORDS += ["trainer.enable_progress_bar=false", "callbacks=[none,speed]"]
ONLINE = [*WORDS, "logger.mode=online"]
DUMMY = "0123456789" * 4
WITHOUT = "the run goes on without it, and metrics.csv and result.json hold its numbers."
OFFLINE = "the run is recorded offline, for `wandb sync`."
SAID = {
    "offline": "",
    "absent": f"W&B cannot be imported; {WITHOUT}",
    "killed": "W&B failed (ConnectionResetError: Connection lost)",
    "frozen": "W&B did not close its record (TimeoutError: no answer in 12 s).",
    "full": "",
    "no_space": "W&B failed (OSError: [Errno 28] No space left on device)",
    "unreachable": f"W&B's server does not answer; {OFFLINE}",
    "refused": "W&B could not be opened online (CommError: ",
    "taken": "",
    "hanging": "W&B's upload did not finish (TimeoutError: Timed out finishing run.); all of it lies in ",
    "failing": "W&B's upload did not finish (TimeoutError: Timed out finishing run.); all of it lies in ",
}
STREAMS = ("taken", "hanging", "failing")
AT_ONCE = 2  # most of the time is patience with W&B
IMPATIENT = ("none", "no_key", "offline", "absent")  # these runs wait for nobody
RECORDED = ("offline", "unreachable", "refused")


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that answers, but does not know the user."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "user is not logged in"}]}')

    def log_message(self, *_):
        pass


def clean(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    return {**kept, "HOME": "/nowhere", **more}


@pytest.fixture(scope="module")
def folder(commands, tmp_path_factory):
    """One run for each fault, and one that has no tracker."""
    folder = tmp_path_factory.mktemp("faults")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there, nowhere = (
        {"WANDB_API_KEY": DUMMY, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"} for port in (server.server_port, 9)
    )
    jobs = [["none", "", [*WORDS, "logger=csv"], {}], ["no_key", "", ONLINE, {}]]
    jobs += [[name, name, WORDS, {}] for name in ("offline", "absent", "killed", "frozen", "full")]
    jobs += [["no_space", "no_space", [*WORDS, "callbacks=[none,speed,pictures]"], {}]]
    jobs += [["unreachable", "", ONLINE, nowhere], ["refused", "", ONLINE, there]]
    with ExitStack() as servers, ThreadPoolExecutor(AT_ONCE) as pool:
        for stream in STREAMS:
            address = servers.enter_context(serving(stream))
            jobs += [[stream, "", ONLINE, {"WANDB_API_KEY": DUMMY, "WANDB_BASE_URL": address}]]
        list(pool.map(lambda job: train(commands, folder, *job), jobs))
    server.shutdown()
    return folder


def train(commands, folder, name, fault, words, environment):
    """Its log, exit code and seconds are files."""
    started = time.monotonic()
    with (folder / f"{name}.log").open("w") as log:
        done = commands.run(FAULTS, name, fault, *words, cwd=folder, env=clean(**environment), stdout=log, stderr=log)
    (folder / f"{name}.code").write_text(str(done.returncode))
    (folder / f"{name}.seconds").write_text(str(time.monotonic() - started))


def trained(run: Path) -> tuple[dict, list, dict]:
    """All of a run that does not depend on the clock: scores, history, weights."""
    result = json.loads((run / "result.json").read_text())
    rows = [
        {name: cell for name, cell in row.items() if name != "seconds" and not name.startswith("speed/")}
        for row in csv.DictReader((run / "metrics.csv").open())
    ]
    weights = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {key: result[key] for key in ("scores", "curve", "validation")}, rows, weights


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_of_the_tracker_leaves_the_training_alone(folder, fault):
    assert (folder / f"{fault}.code").read_text() == "0", (folder / f"{fault}.log").read_text()
    scores, rows, weights = trained(folder / fault)
    expected_scores, expected_rows, expected_weights = trained(folder / "none")
    assert scores == expected_scores
    assert rows == expected_rows
    assert len(rows) == 3
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_is_told_in_one_sentence_and_once(folder, fault):
    log = (folder / f"{fault}.log").read_text()
    assert "Traceback" not in log
    told = [line for line in log.splitlines() if line.startswith("W&B")]
    assert len(told) == bool(SAID[fault])
    assert all(SAID[fault] in line for line in told)


@pytest.mark.parametrize("fault", SAID)
def test_no_fault_holds_a_run_up_for_longer_than_15_seconds(folder, fault):
    seconds = {name: float((folder / f"{name}.seconds").read_text()) for name in (fault, *IMPATIENT)}
    assert PATIENCE + PARTING < 15
    slowest = max(seconds[name] for name in IMPATIENT)
    assert seconds[fault] < 15 + 2 * slowest, "twice, as other work on the machine comes and goes"


@pytest.mark.parametrize("fault", RECORDED)
def test_a_run_that_cannot_go_online_is_recorded_whole(programs, folder, fault):
    (record,) = (folder / fault / "wandb").glob("offline-run-*")
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", record],
        env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
        capture_output=True,
        check=True,
    )
    found = json.loads(shown.stdout)
    result = json.loads((folder / fault / "result.json").read_text())
    assert found["exit_code"] == 0
    assert found["summary"]["test/elbo"] == pytest.approx(result["scores"]["elbo"]["value"])


@pytest.mark.parametrize("stream", ["hanging", "failing"])
def test_what_was_not_sent_can_be_sent_later(folder, stream):
    """The folder that the sentence names holds the whole record."""
    (told,) = [line for line in (folder / f"{stream}.log").read_text().splitlines() if line.startswith("W&B")]
    assert told.endswith(", for `wandb sync`.")
    place = Path(told.split("lies in ")[1].removesuffix(", for `wandb sync`."))
    assert place.parent == folder / stream / "wandb"
    (record,) = place.glob("*.wandb")
    assert b"test/elbo" in record.read_bytes()


def test_online_without_a_key_is_refused_before_anything_is_trained(folder):
    assert (folder / "no_key.code").read_text() == "2"
    (sentence,) = (folder / "no_key.log").read_text().splitlines()
    assert "needs a W&B API key and none was found" in sentence
    assert not (folder / "no_key" / "metrics.csv").exists()


def test_a_killed_run_loses_one_row_at_most(commands, tmp_path):
    words = [*WORDS, "trainer.max_epochs=2000", "logger=csv"]
    process = commands.start(FAULTS, "run", "", *words, cwd=tmp_path, start_new_session=True)
    counted = tmp_path / "run" / "epochs"
    while not (counted.exists() and counted.stat().st_size > 5):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.07)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    text = (tmp_path / "run" / "metrics.csv").read_text()
    rows = text[: text.rfind("\n")].splitlines()[1:]
    assert len(rows) >= counted.stat().st_size - 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_offline_no_process_opens_a_connection(programs, tmp_path):
    """Python, W&B's service, and whatever these start: a look-up of a name is a connection to its server."""
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg", "-o", trace]
    command = [*strace, sys.executable, ROOT / "train.py", *WORDS, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    called = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    assert called == []
    assert "AF_UNIX" in trace.read_text(), "W&B's service was not watched"
