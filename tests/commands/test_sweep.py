"""A sweep survives its jobs, and its driver's death."""

import csv
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from evaluations import TINY, command, trained

from taut.files import is_held

STUB = Path(__file__).with_name("stub.py")


def driver(commands, folder, *words, pretend=True, **settings):
    env = {**os.environ, **({"TAUT_PRETEND": "1"} if pretend else {})}
    quick = [] if any(word.startswith("sweep.rehearse") for word in words) else ["sweep.rehearse=false"]
    words = ["-m", *words, "hydra.sweep.dir=sweep", *quick]
    return commands.start(STUB, *words, cwd=folder, env=env, stdout=-1, stderr=-1, text=True, **settings)


def swept(commands, folder, *words, pretend=True):
    process = driver(commands, folder, *words, pretend=pretend)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def table(folder):
    with (folder / "sweep" / "jobs.csv").open() as file:
        return list(csv.DictReader(file))


def status(job):
    try:
        return json.loads((job / "status.json").read_text())
    except FileNotFoundError:
        return {"state": "queued"}


def jobs(folder):
    return sorted(path for path in (folder / "sweep").glob("[0-9]*") if path.is_dir())


EXPECTED = {
    100: "ValueError: seed 100 is unlucky",
    101: "ValueError: seed 101 is unlucky",
    102: "ValueError: seed 102 is unlucky",
    103: "ended with exit code 3 and said nothing",
    104: "ended with exit code 0 before its result was written",
    105: "killed by SIGKILL",
    106: "killed by SIGKILL",
    107: "killed by SIGSEGV",
    108: "MemoryError",
    109: "not finite",
    110: "timed out",
    -1: "seed must be an integer from 0 to 4294967295, got -1",
}
GOOD = range(12)


def test_jobs_fail_alone(commands, tmp_path):
    """12 good jobs among 12 that go wrong, each its own way: equal, to the bit, to runs of their own."""
    seeds = [*reversed(EXPECTED), *GOOD]
    words = [*TINY, "network.hidden=[4]", "latent_dim=2", "logger=csv", "k_test=4"]
    axis = "seed=" + ",".join(map(str, seeds))
    code, out, err = swept(
        commands, tmp_path, axis, *words, "sweep.timeout=30", "launcher=joblib", "launcher.n_jobs=3", pretend=False
    )
    assert code == 1
    assert "12 of 24 jobs failed" in err
    rows = {int(row["words"].split("seed=")[1].split()[0]): row for row in table(tmp_path)}
    assert sorted(rows) == sorted(seeds)
    for seed, why in EXPECTED.items():
        assert rows[seed]["state"] == "failed"
        assert why in rows[seed]["reason"]
        assert why in " ".join(out.split())
        assert (seed == -1) == (not rows[seed]["log"])
    for seed in GOOD:
        folder = trained(tmp_path / f"alone{seed}", *words, f"seed={seed}")
        alone = json.loads((folder / "result.json").read_text())
        assert rows[seed]["state"] == "finished"
        job = tmp_path / "sweep" / rows[seed]["job"]
        sweep_result = json.loads((job / "result.json").read_text())
        assert sweep_result["scores"] == alone["scores"]
        ours, theirs = (
            torch.load(place / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for place in (job, folder)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert float(rows[seed]["val_bound"]) == alone["validation"]["bound"]


def test_what_is_finished_is_not_run_again_and_what_failed_only_if_asked(commands, tmp_path):
    code, _, err = swept(commands, tmp_path, "seed=0,100,1,-1")
    assert code == 1
    assert "resume=true" in err
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*/*.json")}
    assert swept(commands, tmp_path, "seed=0,100,1,-1")[0] == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    attempts = lambda: [status(job)["attempts"] for job in jobs(tmp_path)]  # noqa: E731
    assert attempts() == [1, 1, 1, 0]
    assert swept(commands, tmp_path, "seed=0,100,1,-1", "resume=true")[0] == 1
    assert attempts() == [1, 2, 1, 0]


AXIS = "seed=" + ",".join(map(str, range(8)))


def test_a_driver_that_is_killed_again_and_again_finishes_its_sweep(commands, tmp_path, request):
    """Nothing finished is run again, nothing is written over, no process is left, and the table is the same."""
    clock, finished, kills = random.Random(0), {}, request.config.getoption("--driver-kills")
    for _ in range(kills):
        process = driver(commands, tmp_path, AXIS, "launcher=joblib", start_new_session=True)
        time.sleep(clock.uniform(0.2, 2.5))
        process.kill()
        process.communicate()
        _until(lambda: not any(is_held(job / ".lock") for job in jobs(tmp_path)))
        finished |= {m: (m / "result.json").read_bytes() for m in jobs(tmp_path) if status(m)["state"] == "finished"}
        for job, result in finished.items():
            assert (job / "result.json").read_bytes() == result
    code, _, err = swept(commands, tmp_path, AXIS, "launcher=joblib")
    assert code == 0, err
    for job, result in finished.items():
        assert (job / "result.json").read_bytes() == result
    assert [row["state"] for row in table(tmp_path)] == ["finished"] * 8
    (tmp_path / "once").mkdir()
    assert swept(commands, tmp_path / "once", AXIS, "launcher=joblib")[0] == 0
    untimed = [{k: v for k, v in row.items() if k != "seconds"} for row in table(tmp_path)]
    assert untimed == [{k: v for k, v in row.items() if k != "seconds"} for row in table(tmp_path / "once")]


def test_jobs_do_not_outlive_a_driver_that_is_killed(commands, tmp_path):
    process = driver(commands, tmp_path, "seed=111,112", "launcher=joblib")
    _until(lambda: [status(job)["state"] for job in jobs(tmp_path)] == ["running"] * 2)
    time.sleep(1)
    process.kill()
    process.communicate()
    _until(lambda: not any(is_held(job / ".lock") for job in jobs(tmp_path)))


def _until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_driver_that_is_stopped_stops_its_jobs_and_says_how_to_go_on(commands, tmp_path, number, code, n_jobs):
    process = driver(commands, tmp_path, "seed=0,111,112", "launcher=joblib", f"launcher.n_jobs={n_jobs}")
    _until(lambda: any(status(job)["state"] == "finished" for job in jobs(tmp_path)))
    time.sleep(1)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == code, err
    assert err.strip().endswith("The same command goes on with the sweep.")
    assert "Traceback" not in err
    states = [status(job)["state"] for job in jobs(tmp_path)]
    assert states[0] == "finished"
    assert states[1] == "queued"
    assert not any(is_held(job / ".lock") for job in jobs(tmp_path))


def test_another_grid_is_refused_or_merged(commands, tmp_path):
    assert swept(commands, tmp_path, "seed=0,1")[0] == 0
    before = (tmp_path / "sweep" / "sweep.json").read_bytes()
    results = {job: (job / "result.json").read_bytes() for job in jobs(tmp_path)}
    for words in (["seed=0,1,2"], ["seed=0"], ["seed=0,1", "k=2"]):
        code, _, err = swept(commands, tmp_path, *words)
        assert code == 2
        assert "holds other jobs" in err
        assert err.count("\n") == 1
        assert (tmp_path / "sweep" / "sweep.json").read_bytes() == before
    assert swept(commands, tmp_path, "seed=2,1", "resume=merge")[0] == 0
    assert [job.name for job in jobs(tmp_path)] == ["000_seed0", "001_seed1", "002_seed2"]
    assert {job: (job / "result.json").read_bytes() for job in results} == results
    assert [row["state"] for row in table(tmp_path)] == ["finished"] * 3


def test_configs_that_changed_are_refused(commands, tmp_path):
    (tmp_path / "own" / "sweep").mkdir(parents=True)
    study = tmp_path / "own" / "sweep" / "mine.yaml"
    text = "# @package _global_\nk_eval: 5\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}\n"
    study.write_text(text)
    words = ["--config-dir", "own", "+sweep=mine"]
    assert swept(commands, tmp_path, *words)[0] == 0
    assert [job.name for job in jobs(tmp_path)] == ["000_seed0", "001_seed1"]
    study.write_text(text.replace("5", "6"))
    code, _, err = swept(commands, tmp_path, *words)
    assert code == 2
    assert "The configs of 000_seed0 changed" in err


def test_what_does_not_go_together_is_found_before_the_first_job_starts(commands, tmp_path):
    words = ["q=diagonal,exact", "threads=1", "sweep.rehearse=true"]
    code, _, err = swept(commands, tmp_path, *words)
    assert code == 1
    assert err.startswith("001_exact cannot run: The exact posterior of prior=normal with likelihood=bernoulli is not")
    assert [row["state"] for row in table(tmp_path)] == ["finished", "failed"]
    assert [status(job)["attempts"] for job in jobs(tmp_path)] == [1, 0]


def test_a_job_may_be_several_processes(commands, tmp_path):
    """Their noise is their own, so that two of them train to other weights than one."""
    words = [*TINY, "network.hidden=[4]", "latent_dim=2", "logger=csv", "k_test=4"]
    code, _, err = swept(commands, tmp_path, "seed=1", "strategy=ddp_cpu", *words, pretend=False)
    assert code == 0, err
    (row,) = table(tmp_path)
    alone = json.loads((trained(tmp_path / "alone", "seed=1", *words) / "result.json").read_text())
    assert row["state"] == "finished"
    assert float(row["val_bound"]) == pytest.approx(alone["validation"]["bound"], rel=0.05)
    assert float(row["val_bound"]) != alone["validation"]["bound"]


def test_two_drivers_do_not_run_one_sweep(commands, tmp_path):
    first = driver(commands, tmp_path, "seed=0,110")
    _until(lambda: jobs(tmp_path))
    code, _, err = swept(commands, tmp_path, "seed=0,110")
    first.kill()
    first.communicate()
    assert code == 2
    assert "is being run by another process" in err


BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["k=0,-1"], "k must be an integer >= 1, got 0"),
        (["model=vea,iave"], "model=vea is not known; did you mean vae?"),
        (["k=1,2", "resume=outputs/x"], "resume=true"),
        (["seed=interval(0,1)"], "seed=interval(0,1) is no list of values; a sweep over it needs one."),
        (["k=1,2", "launcher=joblib", "launcher.n_jobs=0"], "launcher.n_jobs must be an integer >= 1, got 0"),
        (["k=1,2", "launcher=joblib", "launcher.gpus=[a]"], "got ['a']"),
        (["k=1,2", "launcher=slrum"], "did you mean slurm?"),
        (["k=1,2", "sweep.timeout=-1"], "sweep.timeout must be"),
        (["k=1,2", f"hydra.launcher._target_={BASIC}"], "launcher=joblib"),
        (["k=1,2", "hydra.sweep.subdir=x"], "name their folders themselves"),
        (
            ["k=1,2", "launcher=slurm", "launcher.max_requeues=-1"],
            "launcher.max_requeues must be an integer >= 0, got -1",
        ),
        (["k=1,2", "launcher=slurm"], "launcher.cluster=slurm is not available here"),
    ],
)
def test_a_sweep_that_cannot_be_leaves_nothing(tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")  # this may be a machine of a cluster
    code, _, err = command("train", "-m", *words, "hydra.sweep.dir=sweep", "sweep.rehearse=false")
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_job_sees_one_gpu_and_has_one_thread(commands, tmp_path):
    words = ["seed=range(0,5)", "launcher=joblib", "launcher.n_jobs=2", "launcher.gpus=[3,5]"]
    assert swept(commands, tmp_path, *words)[0] == 0
    results = [json.loads((job / "result.json").read_text()) for job in jobs(tmp_path)]
    assert {result["threads"] for result in results} == {1}
    seen = [result["gpu"] for result in results]
    assert set(seen) == {"3", "5"}
    assert seen[0] != seen[1], "jobs at a time share no GPU"


def test_a_cluster_runs_jobs_as_jobs(commands, tmp_path):
    code, out, err = swept(commands, tmp_path, "seed=0,113,1", "launcher=slurm", "launcher.cluster=local")
    assert code == 1, err
    assert [row["state"] for row in table(tmp_path)] == ["finished", "failed", "finished"], out + err
    assert "prior=vamp does not go with q=exact" in out
    assert "1 of 3 jobs failed" in err


def test_a_job_the_cluster_interrupts_is_queued_again_and_goes_on(commands, tmp_path):
    process = driver(commands, tmp_path, "seed=114,0", "launcher=slurm", "launcher.cluster=local")
    job = tmp_path / "sweep" / "000_seed114"
    _until(lambda: (job / "metrics.csv").exists())
    os.kill(status(job)["pid"], signal.SIGUSR2)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    assert [row["state"] for row in table(tmp_path)] == ["finished", "finished"]
    assert status(job)["attempts"] == 2


def test_runs_started_in_the_same_second_have_folders_of_their_own(commands, tmp_path):
    env = {**os.environ, "TAUT_PRETEND": "1"}
    both = [commands.start(STUB, "seed=0", cwd=tmp_path, env=env) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    runs = list((tmp_path / "outputs" / "runs").iterdir())
    assert len(runs) == 2
    assert all((folder / "result.json").exists() for folder in runs)
