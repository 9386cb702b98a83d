"""A training step against the matrix products it cannot do without: ``python -m benchmarks.train``.

784-200-200-50, tanh, Bernoulli, Adam, batch 100, dynamic binarisation. ``floor`` is the products alone, forward and
backward; ``plain`` a hand-written loop with torch's densities; the others are ``python train.py``, with its data, its
callbacks and Lightning, in processes of their own. Rounds interleave all; ratios are medians over rounds.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from taut.memory import keep_freed_pages

ROOT = Path(__file__).resolve().parents[1]
BATCH, SIZES = 100, (784, 200, 200, 50)
WORDS = [
    *["model=iwae", "data=table", "likelihood=bernoulli", "data.binarisation=dynamic", "latent_dim=50", "k_eval=50"],
    *["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=3", "k_test=50", "logger=csv"],
    *["data.val_fraction=0.01", "data.test_fraction=0.01"],
]
VARIANTS = {
    "taut": [],
    "taut, back through 1": ["objective.backward=1"],
    "taut, back through 5": ["objective.backward=5"],
    "taut, bf16": ["trainer.precision=bf16-mixed"],
}


def products(k: int) -> list[tuple[Tensor, Tensor, Tensor, bool]]:
    """Inputs, weights, gradients of the outputs, and whether the input needs a gradient: of every layer."""
    pixels, *hidden, latent = SIZES
    encoder = [(pixels, hidden[0]), (hidden[0], hidden[1]), (hidden[1], 2 * latent)]
    decoder = [(latent, hidden[1]), (hidden[1], hidden[0]), (hidden[0], pixels)]
    layers = [(BATCH, shape, i > 0) for i, shape in enumerate(encoder)] + [(BATCH * k, s, True) for s in decoder]
    return [(torch.randn(n, i), torch.randn(o, i), torch.randn(n, o), needs) for n, (i, o), needs in layers]


def floor(k: int, steps: int) -> float:
    """Seconds of the products of one step."""
    layers = products(k)
    started = time.perf_counter()
    for _ in range(steps):
        for h, weight, gradient, needs in layers:
            h @ weight.mT
            gradient.mT @ h
            if needs:
                gradient @ weight
    return (time.perf_counter() - started) / steps


class Plain(nn.Module):
    """The model as it is usually written."""

    def __init__(self) -> None:
        super().__init__()
        pixels, *hidden, latent = SIZES
        self.encoder = _mlp(pixels, *hidden, 2 * latent)
        self.decoder = _mlp(latent, *hidden, pixels)

    def log_w(self, x: Tensor, k: int) -> Tensor:
        """Log-weights, [k, b]."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        q, p = Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)
        z = q.rsample((k,))
        logits = self.decoder(z)
        log_px = -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        return log_px + p.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


def _mlp(*sizes: int) -> nn.Sequential:
    layers = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def plain(k: int, steps: int) -> float:
    """Seconds of one step of a plain loop."""
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    grey = torch.rand(steps * BATCH, SIZES[0]) ** 4
    started = time.perf_counter()
    for batch in grey.split(BATCH):
        optimizer.zero_grad()
        loss = -model.log_w(batch.bernoulli(), k).logsumexp(0).mean()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps


def command(k: int, words: list[str], data: Path) -> float:
    """Seconds of one step of ``python train.py``, in the last of three epochs."""
    with tempfile.TemporaryDirectory() as place:
        words = [*WORDS, *words, f"k={k}", f"data.path={data}", f"hydra.run.dir={place}/run"]
        subprocess.run([sys.executable, ROOT / "train.py", *words], check=True, capture_output=True, cwd=place)
        with open(f"{place}/run/metrics.csv", encoding="utf-8") as file:
            rates = [float(row["speed/images_per_second"]) for row in csv.DictReader(file)]
    return BATCH / rates[-1]


def main(k: int = 50, rounds: int = 5, images: int = 3000) -> dict[str, list[float]]:
    """Seconds per step of every round; prints a table."""
    keep_freed_pages()
    seconds: dict[str, list[float]] = {name: [] for name in ("floor", "plain", *VARIANTS)}
    steps = images // BATCH
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "grey.npy"
        np.save(data, np.random.default_rng(0).random((images, SIZES[0]), dtype=np.float32) ** 4)
        for _ in range(rounds):
            for name, words in VARIANTS.items():
                seconds[name].append(command(k, words, data))
                if name == "taut":
                    seconds["floor"].append(floor(k, steps))
                    seconds["plain"].append(plain(k, steps))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, K = {k}, {rounds} rounds of {steps} steps")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["floor"], strict=True))
        print(f"{name:21} {1e3 * statistics.median(times):7.1f} ms/step   {ratio:.2f} x floor")
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("k", 50), ("rounds", 5), ("images", 3000)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    main(**vars(parser.parse_args()))
