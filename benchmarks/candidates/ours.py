"""The model and the evaluator of this project, on given weights; its training is in ``command``."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import work
from benchmarks.candidates.plain import load
from benchmarks.worker import Clock
from taut.evidence import Importance, Target
from taut.joint import Joint
from taut.likelihood.bernoulli import Bernoulli
from taut.memory import keep_freed_pages
from taut.networks import MLPDecoder, MLPEncoder
from taut.prior.normal import Normal
from taut.q.diagonal import Diagonal

TOGETHER = 5
"""Images put before the estimator at once."""


def model(weights: work.Arrays) -> tuple[Joint, Diagonal]:
    """Joint and q with the given weights; the last bias is the likelihood's offset."""
    shape = {"hidden": work.HIDDEN, "activation": "tanh"}
    joint = Joint(Normal(work.LATENT), Bernoulli((work.PIXELS,), work.LATENT, partial(MLPDecoder, **shape)))
    q = Diagonal(joint, (work.PIXELS,), partial(MLPEncoder, **shape))
    for parameter, array in zip(parameters(joint, q), weights, strict=True):
        parameter.data = torch.tensor(array)
    return joint, q


def parameters(joint: Joint, q: Diagonal) -> list[torch.nn.Parameter]:
    """The parameters in the order of ``work``."""
    assert isinstance(joint.likelihood, Bernoulli)
    return [*q.parameters(), *joint.likelihood.decoder.parameters(), joint.likelihood.offset]


def log_w(joint: Joint, q: Diagonal, x: Tensor, noise: Tensor) -> Tensor:
    """Log-weights, [k, b], of images [b, 784] and noise [k, b, 50], as the estimators compute them."""
    normal = q(x).base_dist
    z = normal.loc + normal.scale * noise
    return Target.of(joint, q).log_joint(x, z) - q(x).log_prob(z).double()


@torch.no_grad()
def evaluate(clock: Clock, k: int, weights: str, images: str) -> None:
    """A few images after another, diagnostics and all, with the allocator setting of the command line."""
    keep_freed_pages()
    target, data = Target.of(*model(load(weights))), torch.tensor(np.load(images))
    clock.tick(0)
    while True:
        for x in data.split(TOGETHER):
            _ = Importance(k)(target, x).value
            clock.tick(len(x))
