"""An iteration of EM against scikit-learn's and the products it cannot do without: ``python -m benchmarks.mixture``.

A mixture of C Gaussians with full covariances, N rows of D numbers, float64. ``taut`` is ``python train.py model=mog``
with its callbacks and its logging. All start from the same parameters; their log-likelihoods are compared.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import options, report
from benchmarks.rounds import Block, Candidate, interleave, quietest, summarise, workers

ROWS = (50_000, 100_000, 200_000, 400_000)
COMPONENTS = (12, 25, 50, 100)


def table(n: int, d: int, components: int, path: Path) -> str:
    """Write n rows of a mixture, with every component's own covariance."""
    rng = np.random.default_rng(0)
    means = 3 * rng.standard_normal((components, d))
    factors = rng.standard_normal((components, d, d)) / d**0.5
    label = rng.integers(components, size=n)
    noise = rng.standard_normal((n, d))
    rows = np.concatenate([means[c] + noise[label == c] @ factors[c] for c in range(components)])
    np.save(path, rng.permutation(rows))
    return str(path)


def candidates(n: int, d: int, components: int, place: Path) -> list[Candidate]:
    """The three, on the same rows."""
    rows, start = table(n, d, components, place / "rows.npy"), str(place / "start.npz")
    return [
        Candidate("floor", _entry("floor"), {"n": n, "d": d, "components": components}),
        Candidate("taut", _entry("taut"), {"table": rows, "components": components, "start": start}),
        Candidate("scikit-learn", _entry("sklearn"), {"table": rows, "start": start}),
    ]


def _entry(function: str) -> str:
    return f"benchmarks.candidates.em:{function}"


def growth(sizes: list[tuple[int, int]], args: argparse.Namespace) -> dict[tuple[int, int], float]:
    """Seconds of an iteration of this project's EM for each (N, C)."""
    found = {}
    for n, components in sizes:
        with tempfile.TemporaryDirectory() as place:
            own = candidates(n, args.d, components, Path(place))[1]
            with workers([own], args.threads) as (worker,):
                worker.block(0.0)
                found[n, components] = quietest(partial(worker.block, args.seconds), args.retries).seconds
    return found


def main(args: argparse.Namespace) -> dict[str, list[Block]]:
    """Blocks of every candidate; prints tables and draws figures."""
    with tempfile.TemporaryDirectory() as place:
        chosen = candidates(args.n, args.d, args.components, Path(place))
        found = interleave(chosen, args.rounds, args.seconds, args.retries, args.threads, args.iterations)
    print(f"\nEM, N = {args.n}, D = {args.d}, C = {args.components}, full, float64\n\n{report.header(args.threads)}")
    summaries = summarise(found, "scikit-learn")
    print(report.timings(summaries, "scikit-learn", "iteration"))
    print(report.timings(summarise(found, "floor"), "floor", "iteration"))
    report.keep(report.ratios(summaries, "scikit-learn", "An iteration of EM"), args.out, "mixture")
    values = {name: own[0].value for name, own in found.items() if name != "floor"}
    rows = [[name, f"{value:.10f}"] for name, value in values.items()]
    print(report.table(["candidate", f"mean log p(x) after {args.iterations} iterations, nats"], rows))
    _print_growth(args)
    return found


def _print_growth(args: argparse.Namespace) -> None:
    by_rows = growth([(n, args.components) for n in ROWS], args)
    by_components = growth([(args.n, components) for components in COMPONENTS], args)
    rows = [[f"{n:,}", str(c), f"{1e3 * s:.0f}", f"{1e9 * s / n / c:.1f}"] for n, c, s in _flat(by_rows, by_components)]
    print(report.table(["N", "C", "ms/iteration", "ns/row and component"], rows))
    series = {
        f"taut, C = {args.components}": ([n * c for n, c in by_rows], list(by_rows.values())),
        f"taut, N = {args.n}": ([n * c for n, c in by_components], list(by_components.values())),
    }
    report.keep(
        report.curves(series, "N C", "seconds per iteration", "EM against its size"), args.out, "mixture_growth"
    )


def _flat(*tables: dict[tuple[int, int], float]) -> list[tuple[int, int, float]]:
    return [(n, components, seconds) for one in tables for (n, components), seconds in one.items()]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = options.parser(__doc__, rounds=5, seconds=1.0)
    sizes = {"n": 200_000, "d": 16, "components": 50, "iterations": 3}
    for name, size in sizes.items():
        found.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    return found


if __name__ == "__main__":
    main(parser().parse_args())
