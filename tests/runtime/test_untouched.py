"""What taut does in Python changes nothing of its caller."""

import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime.calls_of_a_user import snapshot

import taut
from taut.runtime.untouched import untouched


def test_a_call_changes_nothing_of_its_caller(programs, tmp_path):
    """In a process of its own: the checks of annotations in this one draw from Python's generator."""
    program = Path(__file__).with_name("calls_of_a_user.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.stdout == "done\n", done.stdout + done.stderr


def test_what_a_block_changes_is_put_back(monkeypatch):
    monkeypatch.setenv("TAUT_KEPT", "1")
    before = snapshot()
    with untouched(torch.float64):
        assert torch.get_default_dtype() == torch.float64
        random.random(), np.random.rand(), torch.rand(1)
        torch.use_deterministic_algorithms(True)
        os.environ["TAUT_TEST"], os.environ["TAUT_KEPT"] = "1", "2"
        warnings.simplefilter("error")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        logging.getLogger().addHandler(logging.NullHandler())
        logging.getLogger().setLevel(logging.DEBUG)
    after = snapshot()
    for what, value in before.items():
        assert after[what] == value, what


def test_an_import_is_light_and_changes_nothing(programs):
    """0.1 s of processor time: nothing heavy is met, and no generator, logger or filter."""
    code = (
        "import logging, os, sys, time, warnings; "
        "before = (dict(os.environ), list(warnings.filters), logging.root.handlers[:], logging.root.level); "
        "started = time.process_time(); import taut; took = time.process_time() - started; "
        "assert before == (dict(os.environ), list(warnings.filters), logging.root.handlers[:], logging.root.level); "
        "heavy = [name for name in ('numpy', 'torch', 'lightning', 'sklearn', 'hydra') if name in sys.modules]; "
        "print(heavy, took < 0.1, {'VAE', 'load', 'evaluate'} <= set(dir(taut)), taut.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"[] True True {taut.__version__}\n", done.stdout + done.stderr


def test_every_name_that_is_offered_is_there():
    assert set(taut.__all__) <= set(dir(taut))
    for name in taut.__all__:
        assert getattr(taut, name) is not None
    with pytest.raises(AttributeError, match="module 'taut' has no attribute 'VEA'"):
        taut.VEA  # noqa: B018
