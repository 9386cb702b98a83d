"""A hand-tuned evaluation loop: chunks that fit the cache, x'l through the last hidden layer, the sum of softplus."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks import work
from benchmarks.candidates.plain import Net, load
from benchmarks.worker import Clock

CHUNK = 512


def log_w(net: Net, x: Tensor, noise: Tensor) -> Tensor:
    """Log-weights, [k], of one image [784] and noise [k, 50]."""
    mean, log_variance = net.encoder(x).chunk(2, -1)
    return torch.cat([_chunk(net, x, mean, log_variance, some) for some in noise.split(CHUNK)])


def _chunk(net: Net, x: Tensor, mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    last = net.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    z = torch.addcmul(mean, (log_variance / 2).exp(), noise)
    hidden = net.decoder[:-1](z)
    log_px = hidden @ (last.weight.T @ x) + last.bias @ x - softplus(last(hidden)).sum(1)
    return log_px - z.square().sum(1) / 2 + noise.square().sum(1) / 2 + log_variance.sum() / 2


@torch.no_grad()
def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """Image after image."""
    net, data = Net(load(weights)), torch.tensor(np.load(images))
    clock.tick(0)
    while True:
        for x in data:
            log_w(net, x, torch.randn(k, work.LATENT)).double().logsumexp(0)
            clock.tick()
