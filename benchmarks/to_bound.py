"""Wall clock to a validation bound: the plain loop against ``python train.py`` with all draws and with few."""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import report, work
from benchmarks.rounds import Block, Candidate, workers

EVERY, MOST = 250, 30_000
"""Steps between two looks at the bound, and in all."""


def race(candidates: list[Candidate], target: float, threads: int) -> dict[str, list[Block]]:
    """Blocks of each candidate until its validation bound, nats, is on target; a block of each in turn."""
    with tempfile.TemporaryDirectory() as place, workers(_judged(candidates, place), threads) as running:
        found: dict[str, list[Block]] = {worker.name: [] for worker in running}
        while running:
            for worker in list(running):
                found[worker.name].append(worker.block(1e9, EVERY))
                if found[worker.name][-1].value >= target or len(found[worker.name]) * EVERY >= MOST:
                    running.remove(worker)
            print({name: (len(b) * EVERY, round(b[-1].value, 2)) for name, b in found.items()}, flush=True)
    return found


def _judged(candidates: list[Candidate], place: str) -> list[Candidate]:
    """The candidates, told which validation images to look at."""
    path = f"{place}/validation.npy"
    np.save(Path(path), work.binary("val", 2000))
    return [replace(one, options={**one.options, "validation": path}) for one in candidates]


def show(candidates: list[Candidate], args: argparse.Namespace) -> None:
    """Run the race; print a table and draw the curves."""
    found = race(candidates, args.to_bound, args.threads)
    base = sum(block.elapsed for block in found["plain"])
    rows = []
    for name, blocks in found.items():
        seconds, step = sum(b.elapsed for b in blocks), statistics.median(b.seconds for b in blocks)
        line = [name, f"{blocks[-1].value:.2f}", f"{len(blocks) * EVERY}", f"{1e3 * step:.1f}"]
        rows.append([*line, f"{seconds:.0f}", f"{seconds / base:.2f}"])
    print(f"\nTime to a validation bound of {args.to_bound} nats\n\n{report.header(args.threads)}")
    print(report.table(["candidate", "bound reached", "steps", "ms/step", "seconds", "x plain"], rows))
    report.keep(report.climbs(_curves(found), args.to_bound), args.out, "to_bound")


def _curves(found: dict[str, list[Block]]) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds and bounds."""
    times = {name: np.cumsum([block.elapsed for block in blocks]).tolist() for name, blocks in found.items()}
    return {name: (times[name], [block.value for block in blocks]) for name, blocks in found.items()}
