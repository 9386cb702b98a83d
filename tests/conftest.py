"""What every test shares: one thread, a forked seed, annotations enforced, the same machine everywhere.

Which tests run is said in ``helpers/tiers.py``.
"""

import gc
import logging
import os
import signal
import threading

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin while idle starve others
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads spin as well, twenty times the work

import annotations
import pytest
import torch
from helpers.config_files import remember
from helpers.pictures import coarsen
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from jaxtyping import install_import_hook

LAUNCHERS = ("SLURM", "SBATCH", "SRUN", "SUBMITIT", "TORCHELASTIC")
for name in list(os.environ):  # tests may run in a job of a cluster; what they start is none of its tasks
    if name.startswith(LAUNCHERS) or name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        del os.environ[name]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else what the tests start inherits deaf ears
torch.set_num_threads(1)
MATHEMATICS = [
    "completion.complete",
    "completion.judged",
    "completion.lecture",
    "distributions",
    "evidence",
    "functional",
    "model",
    "objective",
    "report.rank.significance",
    "testing",
    "training.metrics",
    "training.models",
    "training.module",
]
install_import_hook([f"taut.{name}" for name in MATHEMATICS], "annotations.checked")  # shapes, in tests only
pytest_plugins = ["helpers.tiers"]


def pytest_addoption(parser):
    parser.addoption("--driver-kills", type=int, default=20, help="how often the driver of a sweep is killed")


def pytest_collection_finish():
    """Leave what is imported and collected, a million objects, out of later searches for garbage; spare other work."""
    gc.collect()
    gc.freeze()
    coarsen()
    remember()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    del item
    annotations.start()


@pytest.fixture(autouse=True)
def _fresh():
    """The same seed, dtype and threads before each test: commands that run in this process change them for good."""
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64():
    """Default dtype float64 inside the test."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def command_in_process(tmp_path, monkeypatch):
    """For a test that runs commands in this process: a working directory of its own, and nothing left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
