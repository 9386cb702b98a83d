"""Does a search find the winner of a grid, and in what part of the grid's time?

``python -m benchmarks.search record`` trains the 24 points of a grid on the digits, about six minutes of one core, and
writes the validation curve of each with its processor seconds to ``benchmarks/search_curves.json``.
``python -m benchmarks.search`` runs ten searches over that grid, one for each seed, by the code that runs them for
real: what it is told of a training is read from its curve, epoch by epoch. That is what the training would write, for
it is deterministic. ``python -m benchmarks.search real`` trains instead, and says whether the search went the same way.
"""

import csv
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from taut.commands.sweep.job import PRUNE, Job, Status
from taut.commands.sweep.search.scores import Score
from taut.commands.sweep.search.search import Search
from taut.commands.sweep.search.space import Space
from taut.commands.sweep.search.study import JOB
from taut.commands.sweep.supervise import Command
from taut.config.program import Program

ROOT = Path(__file__).resolve().parents[1]
CURVES = Path(__file__).with_name("search_curves.json")
FIXED = ["logger=csv", "threads=1", "trainer.max_epochs=40", "k_eval=10", "k_test=10"]
AXES = {
    "optimizer.lr": ["0.0003", "0.001", "0.003", "0.01"],
    "latent_dim": ["2", "8", "32"],
    "network.hidden": ["[50]", "[200]"],
}
SCORE = "val/bound"
SETTINGS: dict[str, Any] = {"trials": 10, "pruner": "median"}
SEEDS = 10


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


@dataclass(frozen=True)
class Curve:
    """What a training writes: its score and the error of that after every epoch, and what it costs.

    Args:
        score: Validation bound after each epoch, nats.
        error: Its standard error over the rows.
        epochs: Seconds of each epoch.
        start: Seconds of everything else.
        fails: Whether it fails in the end.
    """

    score: Sequence[float]
    error: Sequence[float]
    epochs: Sequence[float]
    start: float
    fails: bool = False

    @property
    def best(self) -> int:
        """The epoch with the highest score."""
        return max(range(len(self.score)), key=lambda epoch: self.score[epoch])


@dataclass
class Replay:
    """The jobs and the engine of a search, which writes of every training what its curve says.

    Args:
        folder: The folder of the sweep.
        curve: The curve of the training with these words.
    """

    folder: Path
    curve: Callable[[list[str]], Curve]
    seconds: float = 0.0
    words: dict[str, list[str]] = field(default_factory=dict)
    _running: dict[str, tuple[list[str], int]] = field(default_factory=dict)

    def planned(self, words: list[str]) -> tuple[Job, DictConfig | None, str | None]:
        """The job of these words."""
        # named after its words alone, so that a search that goes on finds its jobs
        name = hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
        self.words[name] = words
        return Job(0, name, words, ""), None, None

    def refused(self, job: Job, why: str) -> None:
        """Nothing is."""

    def command(self, job: Job) -> Command:
        """What would train."""
        return Command(self.folder / job.folder, job.words, Program("train"))

    def start(self, commands: Sequence[Command]) -> None:
        """Begin trainings."""
        for command in commands:
            command.folder.mkdir(exist_ok=True)
            self._running[command.folder.name] = (list(command.train), 0)
            self.seconds += self.curve(list(command.train)).start

    def wait(self, waiting: set[str]) -> list[tuple[str, Status]]:
        """One more epoch of each."""
        ended = [(name, self._epoch(name)) for name in sorted(waiting)]
        for name, status in ended:
            if status is not None:
                del self._running[name]
        return [(name, status) for name, status in ended if status is not None]

    def _epoch(self, name: str) -> Status | None:
        words, epoch = self._running[name]
        curve, folder = self.curve(words), self.folder / name
        if (folder / PRUNE).exists():
            return Status("pruned", seconds=sum(curve.epochs[:epoch])).write(folder)
        if epoch == len(curve.score):
            return self._end(curve, folder)
        row = f"{epoch},{curve.score[epoch]!r},{curve.error[epoch]!r}\n"
        with (folder / "metrics.csv").open("a") as file:
            file.write(row if epoch else f"epoch,{SCORE},val_error/bound\n{row}")
        self.seconds += curve.epochs[epoch]
        self._running[name] = (words, epoch + 1)
        return None

    def _end(self, curve: Curve, folder: Path) -> Status:
        if curve.fails:
            return Status("failed", reason="ValueError: unlucky", exit_code=1).write(folder)
        bound = curve.score[curve.best]
        (folder / "result.json").write_text(json.dumps({"status": "finished", "validation": {"bound": bound}}))
        return Status("finished", score=bound, exit_code=0).write(folder)


def config(**sweep: Any) -> DictConfig:
    """What a search is told of itself."""
    known = {"trials": 40, "sampler": "tpe", "pruner": "median", "seed": 0, "score": SCORE, "n_jobs": 1, "epochs": 40}
    known |= sweep
    parts = {"sweep": known, "launcher": {"n_jobs": known["n_jobs"]}, "trainer": {"max_epochs": known["epochs"]}}
    return OmegaConf.create(parts)


def replayed(
    folder: Path, words: Sequence[str], curve: Callable[[list[str]], Curve], again: bool = False, **sweep: Any
) -> tuple[Search, Replay]:
    """A search over these words, run to its end."""
    replay, cfg = Replay(folder, curve), config(**sweep)
    space = Space.of(OverridesParser.create().parse_overrides(list(words)))
    search = Search(replay, cfg, folder, space, Score((SCORE,), 0), cfg, again)
    search.run(replay)
    return search, replay


def curves() -> dict[tuple[str, ...], Curve]:
    """Those that were recorded, by the values of their words."""
    known = json.loads(CURVES.read_text())
    return {tuple(one["point"]): Curve(one["score"], one["error"], one["epochs"], one["start"]) for one in known}


def searched(known: dict[tuple[str, ...], Curve], seed: int, **sweep: Any) -> tuple[list[str], float]:
    """The values that a search over the grid ends with, and the seconds it takes."""
    axes = [f"{key}={','.join(values)}" for key, values in AXES.items()]
    with tempfile.TemporaryDirectory() as folder:
        search, replay = replayed(Path(folder), axes, _of(known), seed=seed, **sweep)
        best = replay.words[search.study.best_trial.user_attrs[JOB]]
    return [word.partition("=")[2] for word in best], replay.seconds


def _of(known: dict[tuple[str, ...], Curve]) -> Callable[[list[str]], Curve]:
    return lambda words: known[tuple(word.partition("=")[2] for word in words)]


def within_error(found: Curve, winner: Curve) -> bool:
    """Whether two scores are apart by no more than one standard error of their difference, as pruning takes it."""
    error = math.hypot(found.error[found.best], winner.error[winner.best])
    return winner.score[winner.best] - found.score[found.best] <= error


def real(known: dict[tuple[str, ...], Curve], seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """The values of all trials of a search that trains, and of the same one replayed."""
    axes = [f"{key}={','.join(values)}" for key, values in AXES.items()]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"sweep.{key}={value}" for key, value in {**SETTINGS, "seed": seed}.items()]
        place = [f"hydra.sweep.dir={folder}/search", "hydra/sweeper=optuna"]
        subprocess.run([sys.executable, str(ROOT / "train.py"), "-m", *FIXED, *place, *words, *axes], check=True)
        trials = json.loads((Path(folder) / "search" / "search.json").read_text())["trials"]
    with tempfile.TemporaryDirectory() as folder:
        search, _ = replayed(Path(folder), axes, _of(known), seed=seed, **SETTINGS)
        again = [[*trial.params.values(), trial.state.name] for trial in search.study.trials]
    states = {"finished": "COMPLETE", "pruned": "PRUNED"}
    return [[*trial["params"].values(), states[trial["state"]]] for trial in trials], again


def main(words: Sequence[str]) -> None:
    """What was asked for."""
    if list(words) == ["record"]:
        record()
        return
    known = curves()
    whole = sum(sum(curve.epochs) + curve.start for curve in known.values())
    winner = max(known, key=lambda point: max(known[point].score))
    print(f"grid: {len(known)} trainings, {whole:.0f} s; first {' '.join(winner)}, {max(known[winner].score):.3f} nats")
    if list(words) == ["real"]:
        trained_ones, replayed_ones = real(known, 0)
        for one, other in zip(trained_ones, replayed_ones, strict=True):
            print(" ".join(map(str, one)), "" if one == other else f"but replayed {' '.join(map(str, other))}")
        print("the same" if trained_ones == replayed_ones else "not the same")
        return
    good = 0
    for seed in range(SEEDS):
        found, seconds = searched(known, seed, **SETTINGS)
        behind = max(known[winner].score) - max(known[tuple(found)].score)
        good += within_error(known[tuple(found)], known[winner])
        print(f"seed {seed}: {' '.join(found)}, {behind:.3f} nats behind the first, {seconds / whole:.0%} of the time")
    print(f"{good} of {SEEDS} within one standard error of the first")


if __name__ == "__main__":
    main(sys.argv[1:])
