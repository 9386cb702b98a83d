"""What no machine, or not this one, can run is refused in one sentence before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from evaluations import VAE, command, evaluated, trained
from omegaconf import OmegaConf

from taut.errors import UserError
from taut.runtime import devices, launch

ROOT = Path(__file__).resolve().parents[2]
SRUN = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def _started_alone(monkeypatch):
    for name in (*SRUN, *TORCHRUN, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def trainer(**parts):
    strategy = parts.pop("strategy", "auto")
    strategy = strategy if isinstance(strategy, str) else {"_target_": strategy[0]}
    return OmegaConf.create(
        {"trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true", "strategy": strategy} | parts}
    )


DDP, FSDP = ["lightning.pytorch.strategies.DDPStrategy"], ["taut.training.strategies.Sharded"]
REFUSED = {
    "choose strategy=ddp for GPUs": ({"devices": 2}, {}),
    "choose strategy=ddp for GPUs,": ({"devices": "auto"}, {}),
    "is not one of ours": ({"strategy": "ddp_spawn"}, {}),
    "needs torchrun or srun": ({"strategy": DDP, "num_nodes": 2}, {}),
    "srun started 4 processes of this command": ({}, SRUN),
    "torchrun started 4 processes of this command": ({}, TORCHRUN),
    "are 6; set the two to what srun was given": ({"strategy": DDP, "num_nodes": 2, "devices": 3}, SRUN),
    "are 2; set the two to what torchrun was given": ({"strategy": DDP, "devices": [0, 1]}, TORCHRUN),
    "in single precision, got 64-true": ({"strategy": FSDP, "precision": "64-true"}, {}),
    "in single precision, got bf16-mixed": ({"strategy": FSDP, "precision": "bf16-mixed"}, {}),
    "trainer.gradient_clip_val must be null": ({"strategy": FSDP, "gradient_clip_val": 1.0}, {}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_from_the_words_alone(words, monkeypatch):
    parts, environ = REFUSED[words]
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words.rstrip(",")):
        devices.check(trainer(**parts))


ALLOWED = [
    ({}, {}),
    ({"devices": [3]}, {}),
    ({"strategy": DDP, "devices": 8}, {}),
    ({"strategy": DDP, "num_nodes": 2, "devices": 2}, SRUN),
    ({"strategy": FSDP, "num_nodes": 4}, TORCHRUN),
    ({"strategy": DDP, "num_nodes": 4, "devices": "auto"}, TORCHRUN),
    ({}, SRUN | {"SLURM_NTASKS": "1"}),
    ({}, SRUN | {"SLURM_JOB_NAME": "interactive"}),
]


@pytest.mark.parametrize(("parts", "environ"), ALLOWED)
def test_what_can_be_is_not(parts, environ, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    devices.check(trainer(**parts))


@pytest.mark.parametrize(
    ("environ", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        (SRUN, True),
        (SRUN | {"SLURM_PROCID": "2", "LOCAL_RANK": "0"}, False),
        (TORCHRUN | {"RANK": "2", "LOCAL_RANK": "0"}, False),
        (SRUN | {"SLURM_PROCID": "2", "SLURM_JOB_NAME": "bash"}, True),
    ],
)
def test_one_process_of_all_machines_speaks(environ, first, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launch.first() is first


def test_processes_that_others_start_need_a_folder_with_a_name(monkeypatch):
    unnamed = OmegaConf.create({"hydra": {"run": {"dir": "outputs/runs/${taut.moment:}_x"}}})
    named = OmegaConf.create({"hydra": {"run": {"dir": "outputs/runs/big"}}})
    devices.check_folder(unnamed)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    devices.check_folder(named)
    with pytest.raises(UserError, match=r"need one folder to write to; name it, e.g. hydra.run.dir="):
        devices.check_folder(unnamed)


@pytest.mark.parametrize("parts", [{"accelerator": "gpu"}, {"accelerator": "gpu", "devices": "auto"}])
def test_no_gpu_is_no_gpu(parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"is not available on this machine \(0 GPUs\)"):
        devices.require(trainer(**parts).trainer)


def test_apples_gpu_is_never_taken(trainings, monkeypatch, tmp_path):
    """MPS has no float64. Lightning's auto and gpu would take it, and every z would be refused by torch."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for lightnings in ("fabric", "pytorch"):
        monkeypatch.setattr(f"lightning.{lightnings}.accelerators.mps.MPSAccelerator.is_available", lambda: True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"\(0 GPUs, and Apple's has no float64\); choose strategy=cpu"):
        devices.require(trainer(accelerator="gpu").trainer)
    said = {}
    for name in ("strategy=mps", "trainer.accelerator=mps"):
        said[name] = command("train", name, "hydra.run.dir=run")
        assert (said[name].code, list(tmp_path.iterdir())) == (2, [])
    assert said["strategy=mps"].err == f"{devices.NO_MPS}\n"
    assert "auto, cpu or gpu (mps has no float64" in said["trainer.accelerator=mps"].err
    assert trained(tmp_path / "run", *VAE, "trainer.accelerator=auto")
    evaluated(tmp_path / "run", "k=8", "limit=4")


@pytest.mark.parametrize(
    ("wanted", "count"), [(1, 1), (4, 4), ([3], 1), ([0, 2], 2), ("auto", 4), (-1, 4), (5, None), ([4], None)]
)
def test_gpus_are_counted(wanted, count, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    node = trainer(accelerator="gpu", devices=wanted).trainer
    if count is None:
        with pytest.raises(UserError, match=r"\(4 GPUs\)"):
            devices.require(node)
    else:
        assert devices.require(node) == count


def test_half_precision_wants_a_gpu(monkeypatch):
    with pytest.raises(UserError, match="16-mixed needs a GPU"):
        devices.require(trainer(precision="16-mixed").trainer)


SINGLE = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
HERE = ["logger=csv", "callbacks=none", "hydra.run.dir=run"]
COMMANDS = {
    "is not available on this machine": [["strategy=gpu"], ["strategy=ddp"], ["strategy=fsdp"]],
    "objective=em runs in one process": [
        ["model=mog", "data=faithful", "model.components=2", "strategy=ddp_cpu"],
        ["model=mog", "data=faithful", "model.components=2", "strategy=fsdp", *SINGLE],
    ],
    "A batch of 1 rows cannot be shared by 2 processes": [["strategy=ddp_cpu", "data.batch_size=1"]],
    "must be an integer >= 1, auto, or a list of GPUs": [["trainer.devices=0"], ["trainer.devices=[]"]],
    "needs torchrun or srun": [["strategy=ddp_nodes"]],
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("words", "said"), [(words, said) for said in COMMANDS for words in COMMANDS[said]])
def test_the_command_says_one_sentence_and_leaves_nothing(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = command("train", *HERE, *words)
    assert done.code == 2, done.err
    assert said in done.err
    assert len((done.out + done.err).strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_slurm_s_processes_beside_the_first_find_its_way(programs, tmp_path):
    """The second of two tasks: it describes no run, and says who it is."""
    environ = {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "train", "PATH": "/usr/bin:/bin"}
    words = ["strategy=ddp_nodes", "trainer.num_nodes=2", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *words],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("process 1: srun started 2 processes, but trainer.num_nodes=2 times")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
