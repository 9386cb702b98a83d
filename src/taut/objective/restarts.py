"""EM of a mixture of Gaussians from several starts at once, of which the best is kept."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taut.joint import Joint
from taut.likelihood.clusters import clusters
from taut.likelihood.component import Component
from taut.prior.categorical import Categorical

ROUNDS = 200
"""Iterations of all starts, at most: training goes on from the best."""


@torch.no_grad()
def best_of(joint: Joint, x: Float[Tensor, "n *x"], seeds: Sequence[int], tolerance: float) -> None:
    r"""Set a mixture to the best of several that EM leads to, each from its own k-means.

    The components of all mixtures are one table, so that an iteration is one pass over x, whatever their number. A
    mixture that ends at the floor of a variance, or with too few rows for a covariance, is kept only if all do: its
    likelihood has no maximum, and how large it is says nothing.

    Args:
        joint: A categorical prior and a table of Gaussians, which says what the parameters are relative to.
        x: Training rows.
        seeds: Of k-means, one for each mixture.
        tolerance: Change of the mean of $\log p(x)$ in nats below which every mixture has converged.
    """
    prior, likelihood = joint.prior, joint.likelihood
    assert isinstance(prior, Categorical)
    assert isinstance(likelihood, Component)
    starts, table = len(seeds), _table(likelihood, x, seeds)
    weights, means = _log_weights(table.counts, starts), x.new_full((starts,), -torch.inf, dtype=torch.float64)
    for _ in range(ROUNDS):
        log_px, sums = table.expect(x, weights)
        gain, means = log_px.mean(-1) - means, log_px.mean(-1)
        if (gain.abs() < tolerance).all():
            break
        weights = _log_weights(sums["counts"], starts)
        table.maximise(sums)
    bounded = ~(table.at_the_floor | table.too_few).unflatten(0, (starts, -1)).any(-1)
    _keep(table, prior, likelihood, _first(means, bounded))


def _table(likelihood: Component, x: Tensor, seeds: Sequence[int]) -> Component:
    """Of the components of all mixtures."""
    count = len(likelihood.offsets)
    table = Component(
        likelihood.x_shape,
        len(seeds) * count,
        covariance=likelihood.covariance,
        min_variance=likelihood.min_variance,
        min_share=likelihood.min_share / len(seeds),
    ).to(likelihood.centre)
    table.measure(x.flatten(1))
    table.rows.mul_(len(seeds))  # every row is explained by each mixture
    inside = table.starting_rows(x.flatten(1))
    table.start(inside, *(clusters(inside, count, seed) for seed in seeds))
    return table


def _log_weights(counts: Float[Tensor, " m"], starts: int) -> Float[Tensor, "s c"]:
    shares = counts.unflatten(0, (starts, -1))
    return (shares / shares.sum(-1, keepdim=True)).clamp_min(torch.finfo(shares.dtype).tiny).log()


def _first(means: Float[Tensor, " s"], bounded: Bool[Tensor, " s"]) -> int:
    eligible = bounded if bounded.any() else torch.ones_like(bounded)
    return int(means.masked_fill(~eligible, -torch.inf).argmax())


def _keep(table: Component, prior: Categorical, likelihood: Component, start: int) -> None:
    count = len(likelihood.offsets)
    own = slice(start * count, (start + 1) * count)
    prior.maximise({"counts": table.counts[own]})
    likelihood.counts.copy_(table.counts[own])
    for name, parameter in likelihood.named_parameters():
        parameter.copy_(table.get_parameter(name)[own])
