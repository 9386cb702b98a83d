"""Two processes start together, end together, and the one that failed is heard."""

import os
import signal
import time

import pytest

from taut.runtime.workers import WorkerExit
from taut.training.checkpoint import newest_good

TINY = ["logger=csv", "callbacks=none", "threads=1", "k_eval=4", "k_test=4", "model=vae", "network.hidden=[8]"]
TWO = [*TINY, "strategy=ddp_cpu", "data.batch_size=40", "trainer.enable_progress_bar=false"]


FAULTS = {
    "1 batch 3 raise": (1, "Process 1 of 2 (counted from 0) failed", "RuntimeError: a seeded fault"),
    "1 batch 3 leave": (1, "Process 1 of 2 (counted from 0) ended without a word, exit code 3."),
    "1 batch 3 nan": (
        1,
        "Process 1 of 2 (counted from 0) failed: Training diverged: the training bound",
        "is not finite at step 2",
    ),
    "1 batch 3 SIGKILL": (1, "was ended by SIGKILL, perhaps because memory ran out."),
    "0 batch 3 raise": (1, "RuntimeError: a seeded fault"),
    "0 batch 3 SIGKILL": (-9,),
    "1 data 1 refuse": (2, "Process 1 of 2 (counted from 0) failed: This machine lacks a file; copy it there."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_that_fails_is_heard_and_ends_all(fault, faulty_train, tmp_path):
    code, *words = FAULTS[fault]
    started = time.monotonic()
    struck = faulty_train.run(tmp_path, *TWO, "hydra.run.dir=run", fault=fault)
    assert struck.code == code, struck.said
    for word in words:
        assert word in struck.said
    assert struck.said.count("a seeded fault") <= 2  # in the source line of the traceback, and at its end
    assert time.monotonic() - started < 60
    assert not (tmp_path / "run" / "result.json").exists()


def test_sigterm_to_one_process_stops_both_behind_a_checkpoint(faulty_train, tmp_path):
    struck = faulty_train.run(tmp_path, *TWO, "hydra.run.dir=run", fault="0 batch 3 SIGTERM")
    assert struck.code == 143, struck.said
    assert "Stopped by SIGTERM. Go on with: python" in struck.said
    assert newest_good(tmp_path / "run" / "checkpoints").name.startswith("interrupted-step=00000003")


@pytest.mark.parametrize(
    ("code", "stop"), [(-signal.SIGTERM, 143), (-signal.SIGINT, 130), (143, 143), (-9, None), (1, None)]
)
def test_a_process_that_a_signal_stops_stops_the_command_with_it(code, stop):
    """With a handler or, while it is still importing, without one."""
    error = WorkerExit(1, code, "").error(2)
    assert (error.code if isinstance(error, SystemExit) else None) == stop


@pytest.mark.parametrize(
    ("moment", "number"),
    [("importing", signal.SIGTERM), ("importing", signal.SIGKILL), ("training", signal.SIGTERM)],
)
def test_a_signal_to_the_group_leaves_nobody_behind(moment, number, faulty_train, tmp_path):
    command = faulty_train.start(tmp_path, *TWO, "trainer.max_epochs=100000", "hydra.run.dir=run", fresh=True)
    while len(command.processes()) < 1 or (moment == "training" and not (tmp_path / "run" / "metrics.csv").exists()):
        time.sleep(0.02)
    time.sleep(1.0 if moment == "importing" else 0.0)
    os.killpg(command.pid, number)
    assert command.wait() == {signal.SIGTERM: 143, signal.SIGKILL: -9}[number], command.said


def test_the_second_process_does_not_outlive_the_first(faulty_train, tmp_path):
    """While it still imports, and knows nothing of the others but a socket."""
    command = faulty_train.start(tmp_path, *TWO, "hydra.run.dir=run", fresh=True)
    while not command.processes():
        time.sleep(0.02)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait() == -9
