"""Gradients of one step, drawn again and again: their signal to noise against K."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.functional import seeding
from taut.functional.signal_to_noise import GradientSums, SignalToNoise
from taut.model.joint import Joint
from taut.model.q.base import Posterior
from taut.objective.base import Objective

PARTS = ("q", "model")
"""Whose gradients are told apart: the encoder's, and those of prior and decoder."""


def signal_to_noise(
    joint: Joint,
    q: Posterior,
    objective: Objective,
    x: Float[Tensor, "b *x"],
    ks: Sequence[int],
    *,
    draws: int,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, list[SignalToNoise]]:
    r"""Signal to noise of the gradient of an objective's surrogate on one batch, for every K.

    Args:
        joint: $p(x, z)$.
        q: $q(z \mid x)$.
        objective: The gradient recipe.
        x: The batch, of which a gradient is the mean.
        ks: Numbers of samples K.
        draws: Gradients that are drawn for each K, each from noise of its own.
        seed: Seed of the noise.
        progress: Called after every gradient.

    Returns:
        For ``q`` and ``model``, where they have parameters, a ratio for each K.

    Raises:
        UserError: If the objective does not train this model with one of the K.
    """
    for k in ks:
        objective.check(joint, q, k, x[:2])
    modules: dict[str, nn.Module] = dict(zip(PARTS, (q, joint), strict=True))
    parameters = {name: list(module.parameters()) for name, module in modules.items()}
    parameters = {name: found for name, found in parameters.items() if found}
    every = [parameter for found in parameters.values() for parameter in found]
    ratios: dict[str, list[SignalToNoise]] = {name: [] for name in parameters}
    with _learning(every), seeding.forked(x.device):
        for place, k in enumerate(ks):
            sums = {name: GradientSums(sum(p.numel() for p in found), x.device) for name, found in parameters.items()}
            for number in range(draws):
                seeding.seed(seeding.key(seed, "gradients", place * draws + number), x.device)
                sampled = objective.draw(joint, q, x, k)
                found = torch.autograd.grad(objective.surrogate(sampled), every, allow_unused=True)
                of_each = dict(zip(map(id, every), found, strict=True))
                for name, own in parameters.items():
                    sums[name].add(number, _flat(own, of_each))
                progress()
            for name in parameters:
                ratios[name].append(sums[name].ratio())
    return ratios


def _flat(parameters: Sequence[Tensor], gradients: dict[int, Tensor]) -> Float[Tensor, " p"]:
    found = [(parameter, gradients[id(parameter)]) for parameter in parameters]
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in found])


@contextmanager
def _learning(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Have parameters take part in a graph inside; those of a run that is read back take part in none."""
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_()
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)
