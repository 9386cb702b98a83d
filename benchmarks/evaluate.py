"""L_5000 of an image against the matrix products it cannot do without: ``python -m benchmarks.evaluate``.

784-200-200-50, tanh, Bernoulli, at weights of a short training. ``plain`` scores all samples of an image at once with
torch's densities; ``tuned`` takes chunks that fit the cache; ``taut`` is ``taut.evidence.Importance``, diagnostics and
all; JAX, Pyro and pythae take part where installed. Then: the same number from all of them, and growth in K.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import options, report, work
from benchmarks.candidates import ours, plain, tuned
from benchmarks.rounds import AS_THE_COMMAND, Block, Candidate, interleave, quietest, summarise, workers
from benchmarks.train import PEERS, Files, files

OURS = {"plain": "plain", "tuned": "tuned", "taut": "ours"}
GROWTH = (1, 10, 100, 1000, 10_000, 100_000)


def candidates(k: int, given: Files, peers: bool) -> list[Candidate]:
    """All that can take part."""
    start = {"k": k, "weights": given.weights, "images": given.images}
    found = [Candidate("floor", _entry("floor"), {"k": k})]
    for name, module in OURS.items():
        found.append(Candidate(name, _entry(module), start, env=AS_THE_COMMAND if name == report.OWN else {}))
    return found + [Candidate(name, _entry(module), start, needs) for name, (needs, module) in PEERS.items() if peers]


def _entry(module: str) -> str:
    return f"benchmarks.candidates.{module}:evaluate"


@torch.no_grad()
def same_noise(weights: work.Arrays, k: int, images: int) -> dict[str, np.ndarray]:
    """The estimate of each image by those candidates that can be given their noise; in float64 by ``exact``, nats."""
    x, noise = work.binary("test", images), work.noise(k, images)
    given, drawn = torch.tensor(x), torch.tensor(noise)
    net, exact = plain.Net(weights), plain.Net(weights).double()
    parts = [exact.log_w(given.double(), part.double()) for part in drawn.split(512)]
    by_image = [tuned.log_w(net, one, drawn[:, i]) for i, one in enumerate(given)]
    log_w = {
        "exact": torch.cat(parts),
        "plain": net.log_w(given, drawn),
        "tuned": torch.stack(by_image, 1),
        "taut": ours.log_w(*ours.model(weights), given, drawn),
    }
    found = {name: (w.double().logsumexp(0) - np.log(k)).numpy() for name, w in log_w.items()}
    if Candidate("JAX", "", needs="jax").installed:
        from benchmarks.candidates import scan

        found["JAX jit + scan"] = np.asarray(scan.bound(list(map(scan.jnp.asarray, weights)), x, noise))
    return found


def own_noise(weights: work.Arrays, k: int, images: int) -> dict[str, float]:
    """The mean estimate by peers that draw for themselves, nats."""
    x, found = torch.tensor(work.binary("test", images)), {}
    if Candidate("pythae", "", needs="pythae").installed:
        from benchmarks.candidates import pythae_iwae

        found["pythae"] = pythae_iwae.estimate(weights, x, k)
    if Candidate("Pyro", "", needs="pyro").installed:
        from benchmarks.candidates import pyro_renyi

        found["Pyro"] = pyro_renyi.estimate(weights, x, k)
    return found


def agreement(weights: work.Arrays, k: int, images: int, peers: bool) -> str:
    """A table of the estimates of log p."""
    found = same_noise(weights, k, images)
    exact = found.pop("exact")
    rows = [[name, f"{v.mean():.5f}", f"{np.abs(v - exact).max():.1e}"] for name, v in found.items()]
    if peers:
        rows += [[name, f"{v:.2f}", "own noise"] for name, v in own_noise(weights, k, images).items()]
    return report.table(["candidate", f"mean of {images} images, nats", "furthest from float64, same noise"], rows)


def growth(given: Files, counts: tuple[int, ...], args: argparse.Namespace) -> dict[int, tuple[float, float]]:
    """Seconds per image, and MiB at most above the model, of this project's evaluator in a fresh process for each K."""
    found = {}
    for k in counts:
        (candidate,) = [c for c in candidates(k, given, False) if c.name == "taut"]
        with workers([candidate], args.threads) as (worker,):
            worker.block(0.0, steps=1)
            block = quietest(partial(worker.block, args.seconds), args.retries)
            found[k] = block.seconds, block.peak - block.start
    return found


def main(args: argparse.Namespace) -> dict[str, list[Block]]:
    """Blocks of every candidate; prints tables and draws figures."""
    with files() as given:
        np.savez(given.weights, *plain.trained(work.weights(), args.steps))
        chosen = candidates(args.k, given, args.peers)
        found = interleave(chosen, args.rounds, args.seconds, args.retries, args.threads)
        summaries = summarise(found, "floor")
        peaks = {name: f"{statistics.median(b.peak - b.start for b in own[1:]):.0f}" for name, own in found.items()}
        print(f"\nL_{args.k} of an image\n\n{report.header(args.threads)}")
        print(report.timings(summaries, "floor", "image", {"": "MiB above the model, at most", **peaks}))
        report.keep(report.ratios(summaries, "floor", f"L_{args.k} of an image"), args.out, "evaluate")
        _print_growth(growth(given, GROWTH, args), args.out)
        print(agreement(plain.load(given.weights), args.k, args.images, args.peers))
    return found


def _print_growth(found: dict[int, tuple[float, float]], out: Path) -> None:
    rows = [[f"{k:,}", f"{1e3 * s:.2f}", f"{1e6 * s / k:.2f}", f"{mib:.0f}"] for k, (s, mib) in found.items()]
    print(report.table(["K", "ms/image", "us/sample", "MiB above the model, at most"], rows))
    times = {"taut": (list(found), [seconds for seconds, _ in found.values()])}
    report.keep(report.curves(times, "K", "seconds per image", "Evaluation against K"), out, "evaluate_growth")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = options.parser(__doc__, rounds=7, seconds=1.0)
    found.add_argument("--k", type=int, default=5000, help="samples of each image, default 5000")
    found.add_argument("--images", type=int, default=10, help="images of the table of estimates, default 10")
    found.add_argument("--steps", type=int, default=1000, help="training steps beforehand, default 1000")
    found.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="JAX, pythae and Pyro")
    return found


if __name__ == "__main__":
    main(parser().parse_args())
