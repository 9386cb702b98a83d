"""A mixture of Gaussians for a table with holes, by closed-form EM."""

import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional import seeding
from taut.model.joint import Joint
from taut.model.likelihood.component import Component
from taut.model.prior.categorical import Categorical
from taut.objective.em import expect

ROUNDS, GAIN = 200, 1e-6


@torch.no_grad()
def fit_mixture(x: Float[Tensor, "n d"], components: int, *, floor: float, seed: int = 0) -> Joint:
    r"""The mixture that EM on the observed cells ends at (Ghahramani & Jordan, 1994).

    It stops when $\log p(x_{obs})$ gains less than 1e-6 nats a row, or after 200 rounds.

    Args:
        x: Data with holes; every column is observed somewhere.
        components: Number of Gaussians C.
        floor: Smallest variance in any direction, as a fraction of the columns' variances.
        seed: Seed of the start.
    """
    joint = _start(x, components, floor, seed)
    last = -torch.inf
    for _ in range(ROUNDS):
        log_px, sums = expect(joint, x)
        reached = log_px.mean().item()
        if reached - last < GAIN:
            break
        last = reached
        joint.prior.maximise(sums["prior"])
        joint.likelihood.maximise(sums["likelihood"])
    return joint


def _start(x: Tensor, components: int, floor: float, seed: int) -> Joint:
    with seeding.forked():
        seeding.seed(seeding.key(seed, "mixture", 0), x.device)
        likelihood = Component(x.shape[1:], components, min_variance=floor)
        joint = Joint(Categorical(components), likelihood).to(x)
        likelihood.initialise(x)
        joint.prior.maximise({"counts": likelihood.counts})
    return joint.requires_grad_(False)
