"""Two processes on one machine, joined by gloo, against one."""

import json
from pathlib import Path

import pytest
from helpers.forkserver import ForkServer
from jobs import QUIET, run

ROOT = Path(__file__).resolve().parents[2]
COMMON = [*QUIET, "trainer.precision=64-true", "trainer.max_epochs=2", "k_eval=5", "k_test=5", "data.batch_size=37"]
# this gradient is free of noise, so data-parallel steps must be those of one process on the joint batch
EXACT = ["model=ppca", "objective=exact", "latent_dim=3", "trainer.check_val_every_n_epoch=1"]


def _two_processes(commands: ForkServer, folder: Path, *overrides: str) -> dict:
    words = ["strategy=ddp_cpu", f"hydra.run.dir={folder}", *overrides]
    done = commands.run(ROOT / "train.py", *words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("test split, nats per datum") == 1
    return json.loads((folder / "result.json").read_text())


def test_two_processes_train_and_score_as_one_does(commands, tmp_path):
    """Uneven shards: 1078 rows in batches of 37 (19 + 18), the last of 5 (3 + 2); 360 test rows."""
    two = _two_processes(commands, tmp_path / "two", *COMMON, *EXACT)
    one = run(tmp_path / "one", *COMMON, *EXACT)
    assert two["n"] == one["n"] == 360
    for name, score in one["scores"].items():
        for part in ("value", "standard_error"):
            if part in score:
                assert two["scores"][name][part] == pytest.approx(score[part], rel=1e-9, abs=1e-12), (name, part)
    assert two["validation"]["bound"] == pytest.approx(one["validation"]["bound"], rel=1e-9)
