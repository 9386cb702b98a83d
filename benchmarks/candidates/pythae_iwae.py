"""pythae's IWAE on the networks of the plain loop; its decoder gives probabilities, as its ``bce`` wants them."""

import numpy as np
import torch
from pythae.models import IWAE, IWAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from benchmarks import work
from benchmarks.candidates.plain import Net, batches, load
from benchmarks.worker import Clock


class _Encoder(BaseEncoder):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> ModelOutput:
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class _Decoder(BaseDecoder):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.net(z).sigmoid())


def model(k: int, weights: work.Arrays) -> IWAE:
    """The model with the given weights."""
    net = Net(weights)
    config = IWAEConfig(input_dim=(work.PIXELS,), latent_dim=work.LATENT, number_samples=k, reconstruction_loss="bce")
    return IWAE(config, _Encoder(net.encoder), _Decoder(net.decoder))


def train(clock: Clock, k: int, weights: str) -> None:
    """Its loss in the plain loop."""
    iwae = model(k, load(weights))
    optimizer = torch.optim.Adam(iwae.parameters(), 1e-3)
    clock.tick(0)
    for x in batches():
        optimizer.zero_grad()
        iwae({"data": x}).loss.backward()
        optimizer.step()
        clock.tick()


def estimate(weights: work.Arrays, x: Tensor, k: int) -> float:
    """Its estimate of the mean log p(x), nats."""
    return model(k, weights).get_nll(x, n_samples=k, batch_size=k)


def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """Its ``get_nll``, all draws of an image in one batch."""
    iwae, data = model(k, load(weights)), torch.tensor(np.load(images))
    clock.tick(0)
    while True:
        for x in data.split(1):
            iwae.get_nll(x, n_samples=k, batch_size=k)
            clock.tick()
