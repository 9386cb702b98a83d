"""What the best of ten starts of a mixture loses and costs: ``python -m benchmarks.restarts``.

Mean log p(x) of the training rows where ``model.n_init=10`` ends, against the best of the same ten starts when every
one of them goes to its end, at most 200 iterations, in all rows; seconds of processor time of both, k-means included,
on one thread. ``--peer`` compares with ten starts of scikit-learn's instead, on the table of ``benchmarks.mixture``, at
its stopping rule: an iteration changes the mean log p(x) by less than 1e-3.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import process_time
from typing import cast

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from benchmarks import report
from benchmarks.mixture import table
from taut.functional import seeding
from taut.model.joint import Joint
from taut.model.likelihood.component import Component
from taut.model.prior.categorical import Categorical
from taut.objective import restarts
from taut.objective.em import expect

SIZES = [(2, 5), (2, 10), (4, 10), (8, 6), (8, 15), (16, 8)]
KINDS = {
    "apart": {"spread": 3.0},
    "overlapping": {"spread": 1.0},
    "unequal": {"spread": 1.5, "unequal": True},
    "unequal, heavy tails": {"spread": 1.5, "unequal": True, "heavy": True},
}


def rows_of(
    n: int, d: int, components: int, seed: int, *, spread: float, unequal: bool = False, heavy: bool = False
) -> np.ndarray:
    """Rows of a mixture of Gaussians, or of Student's t with 4 degrees of freedom, each with its own covariance."""
    rng = np.random.default_rng(seed)
    means = spread * rng.standard_normal((components, d))
    factors = rng.standard_normal((components, d, d)) / d**0.5
    shares = rng.dirichlet(np.ones(components)) if unequal else np.full(components, 1 / components)
    labels, noise = rng.choice(components, size=n, p=shares), rng.standard_normal((n, d))
    if heavy:
        noise /= np.sqrt(rng.chisquare(4, (n, 1)) / 4)
    rows = np.empty((n, d))
    for c in range(components):
        rows[labels == c] = means[c] + noise[labels == c] @ factors[c].T
    return rows


def curved(n: int, d: int, seed: int) -> np.ndarray:
    """Rows near a curved surface of three dimensions: no mixture of Gaussians fits them."""
    rng = np.random.default_rng(seed)
    bent = np.tanh(rng.standard_normal((n, 3)) @ rng.standard_normal((3, 32)))
    return bent @ rng.standard_normal((32, d)) / 5 + 0.1 * rng.standard_normal((n, d))


def tables(n: int) -> Iterator[tuple[str, np.ndarray, int]]:
    """Name, rows and number of components."""
    seed = 0
    for d, components in SIZES:
        for name, words in KINDS.items():
            yield name, rows_of(n, d, components, seed, **words), components
            seed += 1
    for d in (5, 10):
        yield "curved", curved(n, d, d), 10


def seeds_of(starts: int) -> list[int]:
    """The seeds of the starts of ``seed=0``."""
    return [seeding.key(0, "starts", start) for start in range(starts)]


def ours(rows: np.ndarray, components: int, starts: int, tolerance: float) -> tuple[float, float]:
    """Mean log p(x) of the best of so many starts, and seconds."""
    x, joint = torch.as_tensor(rows), Joint(Categorical(components), Component(rows.shape[1:], components))
    began = process_time()
    cast(Component, joint.likelihood).measure(x)
    restarts.best_of(joint, x, seeds_of(starts), tolerance)
    return expect(joint, x)[0].mean().item(), process_time() - began


@torch.no_grad()
def one_by_one(rows: np.ndarray, components: int, starts: int, tolerance: float) -> tuple[float, float]:
    """The same where all starts go to their ends in all rows."""
    x, likelihood = torch.as_tensor(rows), Component(rows.shape[1:], components)
    began = process_time()
    likelihood.measure(x)
    mixtures = restarts._started(likelihood, x, seeds_of(starts))
    found = [restarts._led(likelihood, x, [one], tolerance)[0] for one in mixtures]
    return restarts._best(found).mean, process_time() - began


def theirs(rows: np.ndarray, components: int, start: int, tolerance: float) -> tuple[float, float]:
    """A start of scikit-learn's."""
    model = GaussianMixture(components, tol=tolerance, random_state=start, max_iter=restarts.ROUNDS)
    began = process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows)
    seconds = process_time() - began
    print(f"start {start}: {model.n_iter_} iterations, {seconds:.0f} s", flush=True)
    return float(model.score(rows)), seconds


def compare(args: argparse.Namespace) -> None:
    """Print the table of all data."""
    lines, found = [], []
    for name, rows, components in tables(args.n):
        (best, fast), (reference, slow) = (f(rows, components, args.starts, 1e-6) for f in (ours, one_by_one))
        found.append((best - reference, fast / slow))
        figures = [f"{reference:.5f}", f"{best - reference:+.1e}", f"{slow:.1f}", f"{fast:.1f}"]
        lines.append([name, str(rows.shape[1]), str(components), *figures])
        print(*lines[-1], flush=True)
    heads = ["data", "D", "C", "best of all, nats", "ours, more by", "s, all", "s, ours"]
    print(report.table(heads, lines))
    below = sorted(gain for gain, _ in found if gain < -1e-5)
    print(f"{len(below)} of {len(found)} worse by more than 1e-5 nats, at most by {-min(below, default=0.0):.1e};")
    better = [gain for gain, _ in found if gain > 1e-5]
    print(f"{len(better)} better, at most by {max(better, default=0.0):.1e}; time {median(t for _, t in found):.2f}")


def peer(args: argparse.Namespace) -> None:
    """Print the time and the result of one large table beside scikit-learn's."""
    with tempfile.TemporaryDirectory() as place:
        rows = np.load(table(200_000, 16, 50, Path(place) / "rows.npy"))
    value, seconds = ours(rows, 50, args.starts, 1e-3)
    print(f"taut, the best of {args.starts}: {value:.5f} nats, {seconds:.1f} s", flush=True)
    found = [theirs(rows, 50, start, 1e-3) for start in range(args.starts)]
    best, total = max(value for value, _ in found), sum(seconds for _, seconds in found)
    print(f"scikit-learn, the best of {args.starts}: {best:.5f} nats, {total:.0f} s; ratio {seconds / total:.3f}")


def main(args: argparse.Namespace) -> None:
    """Run one of the two."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    peer(args) if args.peer else compare(args)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--n", type=int, default=40_000, help="rows of every table, default 40000")
    found.add_argument("--starts", type=int, default=10, help="default 10")
    found.add_argument("--peer", action="store_true", help="a table of 200,000 rows against scikit-learn")
    return found


if __name__ == "__main__":
    main(parser().parse_args())
