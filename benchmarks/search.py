"""Does a search find the winner of a grid, and in what part of the grid's time?

``python -m benchmarks.search record`` trains the 24 points of a grid on the digits, about six minutes of one core, and
writes the validation curve of each with its processor seconds to ``benchmarks/search_curves.json``.
``python -m benchmarks.search`` runs ten searches over that grid, one a seed, by the code that runs them for real: what it
is told of a training is read from its curve, epoch by epoch, which is what the training would have written, for it is
deterministic. ``python -m benchmarks.search real`` trains one of the ten instead, and says whether it went the same way.
"""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from benchmarks.rounds import ROOT

CURVES = Path(__file__).with_name("search_curves.json")
FIXED = ["logger=csv", "threads=1", "trainer.max_epochs=40", "k_eval=10", "k_test=10"]
AXES = {
    "optimizer.lr": ["0.0003", "0.001", "0.003", "0.01"],
    "latent_dim": ["2", "8", "32"],
    "network.hidden": ["[50]", "[200]"],
}
SCORE = "val/bound"


def record() -> None:
    """Train the grid."""
    known: list[dict[str, Any]] = json.loads(CURVES.read_text()) if CURVES.exists() else []
    done = {tuple(one["point"]) for one in known}
    for point in product(*AXES.values()):
        if point in done:
            continue
        known.append(trained(list(point)))
        CURVES.write_text("[\n" + ",\n".join(json.dumps(one) for one in known) + "\n]\n")
        print(point, f"{max(known[-1]['score']):.3f}", f"{known[-1]['start']:.1f} s", flush=True)


def trained(point: list[str]) -> dict[str, Any]:
    """The curve of one training with its processor seconds: of its start and test, and of every epoch."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [f"{key}={value}" for key, value in zip(AXES, point, strict=True)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *FIXED, *words, f"hydra.run.dir={run}"], stdout=subprocess.DEVNULL
        )
        _, code, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        assert code == 0, code
        rows = list(csv.DictReader(io.StringIO((run / "metrics.csv").read_text())))
    # a busy machine slows all parts of a training alike: processor seconds are shared out by the clock
    share = (used.ru_utime + used.ru_stime) / wall
    epochs = [float(row["seconds"]) * share for row in rows]
    return {
        "point": point,
        "score": [float(row[SCORE]) for row in rows],
        "error": [float(row["val_error/bound"]) for row in rows],
        "epochs": [round(each, 4) for each in epochs],
        "start": round(wall * share - sum(epochs), 3),
    }


if __name__ == "__main__":
    record()
