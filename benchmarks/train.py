"""A training step against the matrix products it cannot do without: ``python -m benchmarks.train``.

784-200-200-50, tanh, Bernoulli, Adam, batch 100, dynamic binarisation, MNIST where ``TAUT_DATA`` names a folder that
has it. ``floor`` is the products alone; ``plain`` a hand-written loop with torch's densities; ``taut`` is ``python
train.py`` with its data, its callbacks, its logging and Lightning, and beside it are its steps in a loop; JAX, pythae
and Pyro take part where installed.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks import options, report, to_bound, variance, work
from benchmarks.candidates import command
from benchmarks.rounds import AS_THE_COMMAND, OWN_THREADS, Block, Candidate, interleave, summarise

WORDS = ["model=iwae", "likelihood=bernoulli", "latent_dim=50"]
VARIANTS = {
    "taut": [],
    "taut, back through 5": ["objective.backward=5"],
    "taut, back through 1": ["objective.backward=1"],
    "taut, bf16": ["trainer.precision=bf16-mixed"],
    "taut, bf16, back through 5": ["trainer.precision=bf16-mixed", "objective.backward=5"],
    "taut, dreg": ["objective=dreg"],
}
FEW = {"taut, back through 5": 5, "taut, back through 1": 1, "taut, bf16, back through 5": 5}
"""Those that take the place of a backward pass through more samples than that."""
RACING = ("plain", "taut", *FEW)
PEERS = {"JAX jit + scan": ("jax", "scan"), "pythae": ("pythae", "pythae_iwae"), "Pyro": ("pyro", "pyro_renyi")}


@dataclass(frozen=True)
class Files:
    """What candidates read: weights to start from, images to score, and grey pixels where MNIST is missing."""

    weights: str
    images: str
    table: str


@contextmanager
def files() -> Iterator[Files]:
    """Files that are gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        found = Files(f"{place}/weights.npz", f"{place}/images.npy", f"{place}/grey.npy")
        np.savez(found.weights, *work.weights())
        np.save(found.images, work.binary("test", 100))
        if not work.has_mnist():
            np.save(found.table, work.grey())
        yield found


def candidates(
    k: int, given: Files, peers: bool, words: list[str], waiting: dict[str, str | None] | None = None
) -> list[Candidate]:
    """All that can take part; ``words`` are further words of the command, whose threads wait as they choose or so."""
    start = {"k": k, "weights": given.weights}
    found = [Candidate("floor", _entry("floor"), {"k": k}), Candidate("plain", _entry("plain"), start)]
    for name, more in VARIANTS.items():
        if k > FEW.get(name, 0):
            line = [*WORDS, f"k={k}", *command.data_words(given.table), *more, *words]
            found.append(Candidate(name, _entry("command"), {"words": line}, env=OWN_THREADS | (waiting or {})))
    for name, fused in (("taut's steps, no Lightning", True), ("taut's steps, by autograd", False)):
        found.append(Candidate(name, _entry("ours"), {**start, "fused": fused}, env=AS_THE_COMMAND))
    return found + [Candidate(name, _entry(module), start, needs) for name, (needs, module) in PEERS.items() if peers]


def _entry(module: str) -> str:
    return f"benchmarks.candidates.{module}:train"


def main(args: argparse.Namespace) -> dict[int, dict[str, list[Block]]]:
    """Blocks of every candidate for every K; prints tables and draws figures."""
    found = {}
    with files() as given:
        if args.to_bound is not None:
            to_bound.show([c for c in candidates(50, given, False, args.words) if c.name in RACING], args)
            return found
        for k in args.k:
            # what starts beside others would take them for company in its blocks
            waiting = AS_THE_COMMAND if args.real_time else None
            chosen = candidates(k, given, args.peers, args.words, waiting)
            found[k] = interleave(
                chosen, args.rounds, args.seconds, args.retries, args.threads, real_time=args.real_time
            )
            summaries = summarise(found[k], "floor")
            print(f"\nTraining step, K = {k}, batch {work.BATCH}\n\n{report.header(args.threads)}")
            print(report.timings(summaries, "floor", "step"))
            figure = report.ratios(summaries, "floor", f"A training step, K = {k}")
            report.keep(figure, args.out, f"train_k{k}")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = options.parser(__doc__, rounds=7, seconds=1.5)
    found.add_argument("--k", type=int, nargs="+", default=[50], help="importance samples, one run each; default 50")
    found.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="JAX, pythae and Pyro")
    found.add_argument("--to-bound", type=float, help="instead: time to this validation bound, nats, at K = 50")
    found.add_argument("--variance", action="store_true", help="instead: variance of the gradient through few draws")
    found.add_argument(
        "--real-time", action="store_true", help="let blocks go before all that others do here; for root"
    )
    found.add_argument("--words", nargs="*", default=[], help="further words for python train.py")
    return found


if __name__ == "__main__":
    asked = parser().parse_args()
    variance.show(asked) if asked.variance else main(asked)
