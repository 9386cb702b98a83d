"""A hand-written PyTorch loop as it is usually written, batches in memory, torch's own densities."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks import work
from benchmarks.worker import Clock


class Net(nn.Module):
    """Encoder and decoder with the given weights."""

    def __init__(self, weights: work.Arrays) -> None:
        super().__init__()
        encoder, decoder = work.layers()
        self.encoder, self.decoder = _mlp(encoder), _mlp(decoder)
        for parameter, array in zip(self.parameters(), weights, strict=True):
            parameter.data = torch.tensor(array)

    def log_w(self, x: Tensor, noise: Tensor) -> Tensor:
        """Log-weights, [k, b], of images [b, 784] and noise [k, b, 50]."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        q, p = Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)
        z = q.loc + q.scale * noise
        logits = self.decoder(z)
        log_px = -binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        return log_px + p.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """The importance-weighted bound of each image, nats."""
        return self.log_w(x, noise).logsumexp(0) - float(np.log(len(noise)))


def train(clock: Clock, k: int, weights: str, validation: str | None = None) -> None:
    """Adam on dynamically binarised images; blocks end with the bound of validation images, if there are any."""
    net = Net(load(weights))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    score = None if validation is None else lambda: validated(net, torch.tensor(np.load(validation)), k)
    clock.tick(0)
    for x in batches():
        optimizer.zero_grad()
        loss = -net.bound(x, torch.randn(k, len(x), work.LATENT)).mean()
        loss.backward()
        optimizer.step()
        clock.tick(1, score)


def trained(weights: work.Arrays, steps: int) -> work.Arrays:
    """The weights after some steps at K = 1."""
    torch.manual_seed(0)
    net = Net(weights)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for x in islice(batches(), steps):
        optimizer.zero_grad()
        (-net.bound(x, torch.randn(1, len(x), work.LATENT)).mean()).backward()
        optimizer.step()
    return [parameter.detach().numpy() for parameter in net.parameters()]


def batches() -> Iterator[Tensor]:
    """Binarised batches, epoch after epoch."""
    pixels = torch.from_numpy(work.grey())
    while True:
        for rows in torch.randperm(len(pixels)).split(work.BATCH):
            yield pixels[rows].bernoulli()


@torch.no_grad()
def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """Image after image, all draws at once."""
    net, data = Net(load(weights)), torch.tensor(np.load(images))
    clock.tick(0)
    while True:
        for x in data.split(1):
            net.bound(x, torch.randn(k, 1, work.LATENT))
            clock.tick()


def load(path: str) -> work.Arrays:
    """Weights from a file of ``work``."""
    with np.load(path) as file:
        return list(file.values())


@torch.no_grad()
def validated(net: Net, images: Tensor, k: int) -> float:
    parts = images.split(work.BATCH)
    return torch.cat([net.bound(x, torch.randn(k, len(x), work.LATENT)) for x in parts]).mean().item()


def _mlp(shapes: list[tuple[int, int]]) -> nn.Sequential:
    return nn.Sequential(*[part for i, o in shapes for part in (nn.Linear(i, o), nn.Tanh())][:-1])
