"""Pyro's ``RenyiELBO`` with alpha = 0 and vectorised particles on the networks of the plain loop."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO
from pyro.optim import Adam
from torch import Tensor, nn

from benchmarks import work
from benchmarks.candidates.plain import Net, batches, load
from benchmarks.worker import Clock


class Model(nn.Module):
    """Model and guide."""

    def __init__(self, weights: work.Arrays) -> None:
        super().__init__()
        self.net = Net(weights)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.net.decoder)
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(work.LATENT), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.net.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.net.encoder)
        with pyro.plate("batch", len(x)):
            mean, log_variance = self.net.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(mean, (log_variance / 2).exp()).to_event(1))


def _bound(k: int) -> RenyiELBO:
    pyro.enable_validation(False)
    return RenyiELBO(alpha=0, num_particles=k, vectorize_particles=True, max_plate_nesting=1)


def train(clock: Clock, k: int, weights: str) -> None:
    """``SVI.step``."""
    own = Model(load(weights))
    svi = SVI(own.model, own.guide, Adam({"lr": 1e-3}), _bound(k))
    clock.tick(0)
    for x in batches():
        svi.step(x)
        clock.tick()


@torch.no_grad()
def estimate(weights: work.Arrays, x: Tensor, k: int) -> float:
    """Its estimate of the mean log p(x), nats."""
    own = Model(weights)
    return -sum(_bound(k).loss(own.model, own.guide, image) for image in x.split(1)) / len(x)


@torch.no_grad()
def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """``RenyiELBO.loss`` of one image after another."""
    own, data, bound = Model(load(weights)), torch.tensor(np.load(images)), _bound(k)
    clock.tick(0)
    while True:
        for x in data.split(1):
            bound.loss(own.model, own.guide, x)
            clock.tick()
