"""A table that the memory does not hold is trained on, by gradients and by EM, and scored all the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS, WIDTH = 300_000, 50  # 60 MB in the file, 120 MB in float64
ROOM = 130 << 20
"""Bytes that a process may take beside what it has when all is imported: in memory the table takes 240 MB of them."""
PROGRAM = f"""
import resource, sys
import torch, sklearn.cluster, matplotlib.pyplot
from evaluations import command
from taut.commands import evaluate, train
from taut.data import disk_rows

torch.set_num_threads(1)
if sys.argv[1] == "disk":
    disk_rows.IN_MEMORY, disk_rows.STARTING, disk_rows._CHUNK = 1 << 25, 1 << 22, 1 << 22
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (used + {ROOM}, -1))
for words in sys.argv[2:]:
    name, *words = words.split()
    done = command(name, *words)
    print(name, done.code, done.err[-1000:])
"""
DATA = "data=table data.path=big.npy data.batch_size=10000 data.val_fraction=0.01 data.test_fraction=0.01"
QUIET = "trainer.max_epochs=1 k_eval=2 k_test=2 callbacks=none logger=csv threads=1"
VAE = f"train hydra.run.dir=vae model=vae likelihood=gaussian network.hidden=[8] latent_dim=2 {DATA} {QUIET}"
MOG = f"train hydra.run.dir=mog model=mog model.components=2 {DATA} {QUIET}"
EVALUATED = "evaluate run=vae limit=50 k=10 threads=1"


def outcome(folder: Path, where: str, *commands: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, where, *commands],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what the process takes from /proc")
def test_a_table_larger_than_the_memory(programs, tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, (ROWS, WIDTH))
    block = np.random.default_rng(0).normal(size=(10_000, WIDTH)).astype(np.float32)
    for start in range(0, ROWS, len(block)):
        array[start : start + len(block)] = block + start / ROWS
    done = outcome(tmp_path, "disk", VAE, MOG, EVALUATED)
    assert [word for word in ("train 0", "evaluate 0") if word in done] == ["train 0", "evaluate 0"], done
    assert done.count("train 0") == 2, done
    # or the test would pass whatever is read
    assert "memory" in outcome(tmp_path, "memory", VAE.replace("=vae ", "=again ", 1)).lower()
