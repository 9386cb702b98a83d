"""How many threads a training step is worth, and how long they should wait: ``python -m benchmarks.threads``.

The steps of ``model=iwae`` without Lightning, at one K, with one or two threads that spin for so many turns before they
sleep; interleaved with JAX where it is installed. ``--busy`` keeps one core at work all the while.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from benchmarks import options, report, work
from benchmarks.rounds import Candidate, interleave, summarise
from benchmarks.train import Files, files

TURNS = ("1000", "4000", "10000")
REFERENCE = "1 thread"


def candidates(k: int, given: Files) -> list[Candidate]:
    """One thread, two of different patience, and JAX."""
    start = {"k": k, "weights": given.weights}
    ours = "benchmarks.candidates.ours:train"
    found = [Candidate(REFERENCE, ours, options={**start, "fused": True, "threads": 1})]
    for turns in TURNS:
        waiting: dict[str, str | None] = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": turns}
        name = f"2 threads, {int(turns):,} turns"
        found.append(Candidate(name, ours, options={**start, "fused": True, "threads": 2}, env=waiting))
    return [*found, Candidate("JAX jit + scan", "benchmarks.candidates.scan:train", start, "jax")]


@contextmanager
def busy_core() -> Iterator[None]:
    """One core at work."""
    process = multiprocessing.get_context("spawn").Process(target=_work, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()


def _work() -> None:
    while True:
        pass


def main(args: argparse.Namespace) -> None:
    """Print a table for every K."""
    with files() as given:
        for k in args.k:
            with busy_core() if args.busy else nullcontext():
                # beside a busy core every block is disturbed
                blocks = interleave(candidates(k, given), args.rounds, args.seconds, 0 if args.busy else args.retries)
            beside = ", beside a busy core" if args.busy else ""
            print(f"\nTraining step, K = {k}, batch {work.BATCH}{beside}\n\n{report.header(2)}")
            print(report.timings(summarise(blocks, REFERENCE), REFERENCE, "step"))


def parser() -> argparse.ArgumentParser:
    found = options.parser(__doc__, rounds=5, seconds=1)
    found.add_argument("--k", type=int, nargs="+", default=[1, 5], help="importance samples, one run each")
    found.add_argument("--busy", action="store_true", help="beside a core that is at work")
    return found


if __name__ == "__main__":
    main(parser().parse_args())
