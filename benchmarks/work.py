"""The work that all candidates share: the published IWAE, 784-200-200-50-200-200-784, tanh, batches of 100."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

BATCH, PIXELS, HIDDEN, LATENT = 100, 784, (200, 200), 50
Arrays = list[np.ndarray]


def layers() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Inputs and outputs of every layer of the encoder, mean and log-variance last, and of the decoder."""
    encoder = [PIXELS, *HIDDEN, 2 * LATENT]
    decoder = [LATENT, *reversed(HIDDEN), PIXELS]
    return list(pairwise(encoder)), list(pairwise(decoder))


def weights(seed: int = 0) -> Arrays:
    """Weight [out, in] and bias [out] of every layer, encoder first: Glorot-uniform and zeros."""
    rng, arrays = np.random.default_rng(seed), []
    encoder, decoder = layers()
    for i, o in encoder + decoder:
        bound = (6 / (i + o)) ** 0.5
        arrays += [rng.uniform(-bound, bound, (o, i)).astype(np.float32), np.zeros(o, np.float32)]
    return arrays


def has_mnist() -> bool:
    """Whether MNIST lies in the folder that TAUT_DATA names."""
    return (Path(os.environ.get("TAUT_DATA", "")) / "mnist").is_dir() and "TAUT_DATA" in os.environ


def grey(split: str = "train", most: int | None = None) -> np.ndarray:
    """Pixels in [0, 1], [n, 784]: MNIST where it is there, else 10,000 random images."""
    if not has_mnist():
        return np.random.default_rng(0).random((most or 10_000, PIXELS), dtype=np.float32) ** 4
    from taut.data.mnist import MNIST

    data = MNIST(batch_size=BATCH, dir=os.environ["TAUT_DATA"])
    return getattr(data.splits, split)[:most].flatten(1).numpy()


def binary(split: str, most: int) -> np.ndarray:
    """Images binarised once, [n, 784]."""
    pixels = grey(split, most)
    return (np.random.default_rng(1).random(pixels.shape, dtype=np.float32) < pixels).astype(np.float32)


def noise(k: int, b: int) -> np.ndarray:
    """Standard normal numbers for k draws of b images, [k, b, 50]."""
    return np.random.default_rng(2).standard_normal((k, b, LATENT), dtype=np.float32)
