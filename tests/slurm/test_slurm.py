"""Sweeps and batch files on a real Slurm: what it stops goes on, what it ends is told, what runs is found again."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "tests" / "commands" / "stub.py"
PATIENCE = 180
LAUNCHER = ["sweep.rehearse=false", "launcher=slurm", "launcher.cpus_per_task=1", "hydra.sweep.dir=sweep"]


class Sweep:
    """A sweep on the cluster, whose jobs pretend to train."""

    def __init__(self, cluster, folder, *words, script=STUB, steps=20):
        self.cluster, self.folder = cluster, folder
        self.command = [sys.executable, str(script), "-m", *LAUNCHER, *words]
        self.environment = {**os.environ, **cluster.environment, "TAUT_PRETEND": "1", "TAUT_STEPS": str(steps)}

    def start(self, *words):
        pipe = subprocess.PIPE
        command = [*self.command, *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    @contextmanager
    def driven(self, *words):
        """The driver's process, killed if the block raises; its jobs end with the cluster."""
        process = self.start(*words)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *words):
        """Exit code and output."""
        with self.driven(*words) as process:
            out, err = process.communicate(timeout=PATIENCE)
            return process.returncode, out, err

    def status(self, job):
        try:
            return json.loads((self.folder / "sweep" / job / "status.json").read_text())
        except FileNotFoundError:
            return {"state": "queued", "attempts": 0}

    def states(self):
        with (self.folder / "sweep" / "jobs.csv").open() as file:
            return {row["job"]: row["state"] for row in csv.DictReader(file)}

    def task(self, job):
        """Number of the task that runs a job."""
        try:
            return json.loads((self.folder / "sweep" / "cluster.json").read_text())["tasks"].get(job)
        except FileNotFoundError:
            return None

    def until_running(self, job):
        until(lambda: self.task(job) and self.status(job)["state"] == "running")
        # the stub is past its imports: from here on it counts
        until(lambda: (self.folder / "sweep" / job / ".hydra" / "overrides.yaml").exists())
        time.sleep(0.5)


def until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def limited(cluster, tmp_path_factory):
    """Two sweeps of which each job needs longer than Slurm gives it; they run while other tests do."""
    # Slurm counts limits in minutes, and looks at them twice in one: the signal comes after 10 to 40 seconds
    words = ["launcher.timeout_min=1", "++launcher.slurm.signal_delay_s=20"]
    enough = Sweep(cluster, tmp_path_factory.mktemp("enough"), "seed=114", *words)
    never = Sweep(cluster, tmp_path_factory.mktemp("never"), "seed=115", *words, "launcher.max_requeues=0", steps=3000)
    with enough.driven() as first, never.driven() as second:
        yield {"enough": (enough, first), "never": (never, second)}


@pytest.mark.usefixtures("limited")
def test_a_study_runs_as_on_any_machine(cluster, tmp_path):
    sweep = Sweep(cluster, tmp_path, script=ROOT / "train.py")
    sweep.command.remove("-m")
    code, _, err = sweep.run("+sweep=smoke", "model=vae", "seed=0", "threads=1", "logger=csv", "callbacks=none")
    assert code == 0, err
    ((job, state),) = sweep.states().items()
    assert state == "finished"
    # Lightning misses it wherever Slurm is installed
    assert "srun" not in (tmp_path / "sweep" / job / "log.txt").read_text()


@pytest.mark.usefixtures("limited")
def test_trust_goes_with_the_job_to_the_cluster(cluster, tmp_path):
    """The package lies where the sweep was started, and nothing but the words of the command names it."""
    shutil.copytree(ROOT / "examples" / "mylab" / "src" / "mylab", tmp_path / "mylab")
    sweep = Sweep(cluster, tmp_path, script=ROOT / "train.py")
    sweep.command.remove("-m")
    words = ["+sweep=smoke", "model=vae", "seed=0", "threads=1", "logger=csv", "callbacks=none"]
    code, _, err = sweep.run(*words, "trust=[mylab]", "--config-dir", "mylab/conf", "prior=student")
    assert code == 0, err
    ((job, state),) = sweep.states().items()
    assert state == "finished"
    assert "_target_: mylab." in (tmp_path / "sweep" / job / ".hydra" / "config.yaml").read_text()


def test_jobs_fail_alone(cluster, tmp_path):
    """Twelve jobs, of which five go wrong, each its own way; nothing is put back into the queue."""
    why = {
        100: "ValueError: seed 100 is unlucky",
        103: "ended with exit code 3 and said nothing",
        104: "ended with exit code 0 before its result was written",
        105: "killed by SIGKILL",
        -1: "seed must be an integer",
    }
    seeds = [*why, *range(7)]
    sweep = Sweep(cluster, tmp_path, "seed=" + ",".join(map(str, seeds)))
    code, out, err = sweep.run()
    assert code == 1
    assert "5 of 12 jobs failed" in err
    for number, seed in enumerate(seeds):
        # a name has no minus sign
        status = sweep.status(f"{number:03d}_seed{abs(seed)}")
        assert status["state"] == ("failed" if seed in why else "finished")
        assert status["attempts"] == (seed != -1)
        assert why.get(seed, "") in (status["reason"] or "")
        assert why.get(seed, "") in " ".join(out.split())


def test_a_job_that_is_requeued_goes_on_and_the_driver_waits(cluster, tmp_path):
    """The job next to it is not touched."""
    sweep = Sweep(cluster, tmp_path, "seed=116,117", steps=40)
    job, other = "000_seed116", "001_seed117"
    with sweep.driven() as driver:
        sweep.until_running(job)
        cluster.says("scontrol", "requeue", sweep.task(job))
        until(lambda: sweep.status(job)["state"] == "queued")
        assert sweep.status(job)["reason"] == "stopped by the cluster, to go on from its checkpoint"
        before = int((tmp_path / "sweep" / job / "steps.txt").read_text())
        assert before > 0
        out, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, err
    assert "failed" not in out
    assert [sweep.status(name)["attempts"] for name in (job, other)] == [2, 1]
    both, alone = (sweep.status(name)["seconds"] for name in (job, other))
    # 40 steps of a tenth of a second in either: the time of both attempts counts
    assert min(both, alone) > 0.1 * 40


def test_a_job_that_is_preempted_uses_the_time_of_grace_and_goes_on(cluster, tmp_path):
    sweep = Sweep(cluster, tmp_path, "seed=116", "++launcher.slurm.partition=low", steps=40)
    job = "000_seed116"
    with sweep.driven() as driver:
        sweep.until_running(job)
        cluster.says("sbatch", "--partition=high", "--output=/dev/null", "--wrap=sleep 1")
        until(lambda: sweep.status(job)["state"] == "queued")
        assert int((tmp_path / "sweep" / job / "steps.txt").read_text()) > 0
        _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, err
    assert (sweep.status(job)["state"], sweep.status(job)["attempts"]) == ("finished", 2)


def test_what_is_cancelled_has_failed_and_goes_on_when_asked(cluster, tmp_path):
    """One while it runs and one that waits for its turn; the third, in between, is not touched."""
    sweep = Sweep(cluster, tmp_path, "seed=115,116,117", "launcher.n_jobs=1", steps=20)
    jobs = ["000_seed115", "001_seed116", "002_seed117"]
    with sweep.driven() as driver:
        sweep.until_running(jobs[0])
        first, last = sweep.task(jobs[0]), sweep.task(jobs[2])
        cluster.says("scancel", first, last)
        _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    assert "2 of 3 jobs failed" in err
    assert sweep.states() == dict(zip(jobs, ["failed", "finished", "failed"], strict=True))
    assert sweep.status(jobs[0])["reason"] == f"the cluster ended task {first} (cancelled)"
    # Slurm forgets at once what had not begun
    assert sweep.status(jobs[2])["reason"] == f"the cluster ended task {last} (it no longer knows why)"
    assert int((tmp_path / "sweep" / jobs[0] / "steps.txt").read_text()) > 0
    assert sweep.run("resume=true")[0] == 0
    assert [sweep.status(job)["attempts"] for job in jobs] == [2, 1, 1]


def test_a_driver_that_is_killed_finds_its_jobs_again(cluster, tmp_path):
    """It hands over nothing twice, and what failed meanwhile is not run again."""
    sweep = Sweep(cluster, tmp_path, "seed=115,116,100,117", "launcher.n_jobs=3", steps=40)
    jobs = ["000_seed115", "001_seed116", "002_seed100", "003_seed117"]
    with sweep.driven():
        sweep.until_running(jobs[1])
    tasks = {job: sweep.task(job) for job in jobs}
    # as if it had been cancelled by hand after the driver died
    cluster.says("scancel", tasks[jobs[0]])
    until(lambda: sweep.status(jobs[2])["state"] == "failed")
    until(lambda: sweep.status(jobs[0])["state"] == "queued")
    code, _, err = sweep.run()
    assert code == 1
    assert "2 of 4 jobs failed" in err
    assert [sweep.status(job)["attempts"] for job in jobs] == [1, 1, 1, 1]
    assert [sweep.status(job)["state"] for job in jobs] == ["failed", "finished", "failed", "finished"]
    assert sweep.status(jobs[0])["reason"] == f"the cluster ended task {tasks[jobs[0]]} (cancelled)"
    assert len(list((tmp_path / "sweep" / ".submitit").glob("**/*_submission.sh"))) == 1


def test_a_submission_that_was_cut_short_is_cancelled_and_made_again(cluster, tmp_path):
    """Its numbers are lost, but not its name."""
    sweep = Sweep(cluster, tmp_path, "seed=0")
    name = "taut-sweep-cut"
    cluster.says("sbatch", f"--job-name={name}", "--output=/dev/null", "--hold", "--wrap=true")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "cluster.json").write_text(json.dumps({"submitting": name, "tasks": {}}))
    assert sweep.run()[0] == 0
    assert cluster.says("squeue", "--noheader", f"--name={name}") == ""
    assert sweep.states() == {"000_seed0": "finished"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["++launcher.slurm.partition=gpu"], "invalid partition specified: gpu. Its partitions are cpu, low, high: "),
        (["launcher.gpus_per_node=1"], "Invalid generic resource (gres) specification. See launcher.slurm"),
        (["launcher.cpus_per_task=99"], "Requested node configuration is not available. See launcher.slurm"),
        (["seed=range(0,2000)"], "Invalid job array specification. See launcher.slurm"),
    ],
)
def test_what_slurm_would_not_take_is_refused_before_anything_is_planned(cluster, tmp_path, words, why):
    code, _, err = Sweep(cluster, tmp_path, "seed=0,1").run(*words)
    assert code == 2
    assert err.startswith("Slurm would not take these jobs: ")
    assert why in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_batch_file_goes_on_after_a_signal(cluster, tmp_path):
    """Two tasks train together, stop behind a checkpoint before their time is up, and end where they would have."""
    (tmp_path / "train.py").symlink_to(ROOT / "train.py")
    words = ["strategy=ddp_nodes", "trainer.num_nodes=1", "trainer.devices=2", "trainer.accelerator=cpu"]
    words += ["model=vae", "network.hidden=[8]", "latent_dim=2", "k_eval=4", "k_test=4", "logger=csv", "callbacks=none"]
    words += ["trainer.max_epochs=10", "data.batch_size=20", "data=digits"]
    size = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--gpus-per-node=0", "--time=10"]
    batch = ["sbatch", "--parsable", f"--chdir={tmp_path}", *size, str(ROOT / "docs" / "train.sbatch"), *words]
    environment = {**os.environ, **cluster.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    sent = subprocess.run(batch, env=environment, capture_output=True, text=True, check=True)
    job = sent.stdout.strip()
    run = tmp_path / "outputs" / "runs" / f"big-{job}"
    until(lambda: (run / "metrics.csv").exists())
    cluster.says("scancel", "--signal=USR1", job)
    until(lambda: not cluster.says("squeue", "--noheader", f"--jobs={job}"))
    about = cluster.says("scontrol", "show", "job", job).split()
    assert {"JobState=COMPLETED", "Restarts=1"} <= set(about)
    said = (tmp_path / f"slurm-{job}.out").read_text()
    assert said.count("Stopping after this batch") == 1
    assert json.loads((run / "result.json").read_text())["status"] == "finished"
    epochs = (run / "metrics.csv").read_text().splitlines()
    assert len(epochs) == 1 + 10


def test_a_job_whose_time_is_up_goes_on_as_often_as_was_said(limited):
    sweep, driver = limited["enough"]
    _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, err
    assert (sweep.status("000_seed114")["state"], sweep.status("000_seed114")["attempts"]) == ("finished", 2)
    sweep, driver = limited["never"]
    _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1
    status = sweep.status("000_seed115")
    assert status["attempts"] == 1
    assert status["reason"] == (
        "ran into its time limit 1 times; the time is launcher.timeout_min, how often it may go on is "
        "launcher.max_requeues, and resume=true goes on from its checkpoint"
    )
    assert int((sweep.folder / "sweep" / "000_seed115" / "steps.txt").read_text()) > 0
