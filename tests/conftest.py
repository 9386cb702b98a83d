"""What every test shares: one torch thread, a forked seed, annotations enforced."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin while idle starve others

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
MATHEMATICS = [
    "completion.accuracy",
    "completion.complete",
    "completion.latents",
    "completion.lecture",
    "distributions",
    "evidence",
    "functional",
    "model",
    "objective",
    "report.rank.significance",
    "training.metrics",
    "training.models",
    "training.module",
]
install_import_hook([f"taut.{name}" for name in MATHEMATICS], "annotations.checked")  # shapes, in tests only


def pytest_addoption(parser):
    parser.addoption("--driver-kills", type=int, default=20, help="how often the driver of a sweep is killed")


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def float64():
    """Default dtype float64 inside the test."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(previous)
