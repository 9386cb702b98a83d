"""What a user waits for: ``python -m benchmarks.startup``.

Help, the composed config, a mistake, and the way to the first training step, each from the start of its process to the
end, against a process that only imports what training needs.
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
COMMANDS = {
    "imports": (["-c", "import torch, lightning, hydra, wandb"], 0),
    "taut --help": ([TRAIN, "--help"], 0),
    "taut --cfg job": ([TRAIN, "--cfg", "job"], 0),
    "taut, a mistake": ([TRAIN, "model=nonsense"], 2),
    "taut to its first step": (["-m", "benchmarks.candidates.first_step"], 0),
}
"""Words after ``python``, and the exit code they must have."""


def timed(words: list[str], code: int, threads: int) -> Block:
    """One process from start to end.

    Raises:
        RuntimeError: If it ends with another exit code.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        work, started = busy() - _children(), perf_counter()
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
        foreign = (busy() - _children() - work) / elapsed
        _sweep(process.pid)
        assert process.stderr
        if found != code:
            raise RuntimeError(f"{words} ended with {found}: {process.stderr.read()[-2000:]!r}")
    return Block(elapsed, 1, max(0.0, foreign), 0.0, 0.0, None)


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
    report.keep(report.ratios(summaries, "imports", "From the start to the end of a process"), args.out, "startup")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return options.parser(__doc__, rounds=5, seconds=0.0)


if __name__ == "__main__":
    main(parser().parse_args())
