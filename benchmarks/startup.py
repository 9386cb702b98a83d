"""What a user waits for: ``python -m benchmarks.startup``.

Help, the composed config, a mistake, the plan of a thousand jobs, and the way to the first training step, each from the
start of its process to the end, against a process that only imports what training needs. A second table has the
processor time of each and of its children, the least of all rounds, which other work on the machine changes little.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from time import perf_counter

from benchmarks import options, report
from benchmarks.rounds import ROOT, Block, environment, quietest, summarise
from benchmarks.worker import busy

TRAIN = str(ROOT / "train.py")
THOUSAND = ["model=vae,iwae", "k=1,5,25,50", "seed=range(0,125)"]
COMMANDS = {
    "import hydra": (["-c", "import hydra"], 0),
    "import torch, lightning": (["-c", "import torch, lightning"], 0),
    "imports": (["-c", "import torch, lightning, hydra, wandb"], 0),
    "taut --help": ([TRAIN, "--help"], 0),
    "taut --cfg job": ([TRAIN, "--cfg", "job"], 0),
    "taut, a mistake": ([TRAIN, "model=nonsense"], 2),
    "taut to its first step": (["-m", "benchmarks.candidates.first_step"], 0),
    "taut, 1,000 jobs planned": (["-m", "benchmarks.candidates.planning", "-m", *THOUSAND], 0),
}
"""Words after ``python``, and the exit code they must have."""
BASES = ("import hydra", "import torch, lightning")
"""What the processor times are held against."""


def timed(words: list[str], code: int, threads: int) -> Block:
    """One process from start to end.

    Raises:
        RuntimeError: If it ends with another exit code.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        own, work, started = _children(), busy() - _children(), perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=place,
            env=environment(threads),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        found = process.wait()
        elapsed = perf_counter() - started
        own = _children() - own
        foreign = (busy() - _children() - work) / elapsed
        _sweep(process.pid)
        assert process.stderr
        if found != code:
            raise RuntimeError(f"{words} ended with {found}: {process.stderr.read()[-2000:]!r}")
    return Block(elapsed, 1, max(0.0, foreign), 0.0, 0.0, own)


def _sweep(group: int) -> None:
    """End what the process left behind."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(args: argparse.Namespace) -> dict[str, list[Block]]:
    """Runs of every command; prints a table and draws a figure."""
    found: dict[str, list[Block]] = {name: [] for name in COMMANDS}
    for _ in range(1 + args.rounds):
        for name, (words, code) in COMMANDS.items():
            found[name].append(quietest(partial(timed, words, code, args.threads), args.retries))
    summaries = summarise(found, "imports")
    print(f"\nStart-up, file cache warm\n\n{report.header(args.threads)}")
    print(report.timings(summaries, "imports", "process"))
    least = {name: min(block.value for block in blocks[1:]) for name, blocks in found.items()}
    rows = [
        [name, f"{1e3 * own:.0f}", *(f"{own / least[base]:.2f}" if base in least else "" for base in BASES)]
        for name, own in least.items()
    ]
    print(report.table(["candidate", "ms of processor time, least", *(f"x {base}" for base in BASES)], rows))
    report.keep(report.ratios(summaries, "imports", "From the start to the end of a process"), args.out, "startup")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return options.parser(__doc__, rounds=5, seconds=0.0)


if __name__ == "__main__":
    main(parser().parse_args())
