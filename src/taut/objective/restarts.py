r"""The best of several starts of EM for a mixture of Gaussians, at less than the cost of all of them.

The components of all mixtures are one table, so that an iteration is one pass over the rows, whatever their number; one
that has converged leaves it. Of a large table, EM leads every start to its end in some of the rows, drawn once for all
starts, at the cost of their share, and those that are further behind the best there than chance explains are dropped.
What is left for passes over all rows is to go the last steps of the others to the same ends. Of these, too, a mixture
is dropped that is as far behind in the first pass, or later would not get to the best in ``PATIENCE`` more iterations
at its present gain. In a table that is not large none is: EM may lead one over a plateau, after which it gains more.

Nothing proves that the best of all is found; ``python -m benchmarks.restarts`` shows what is lost, and gained.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from taut.model.joint import Joint
from taut.model.likelihood.component import Component, clusters
from taut.model.prior.categorical import Categorical

ROUNDS = 200
"""Iterations of all starts, at most: training goes on from the best."""
PATIENCE = 100
"""Iterations at its present gain in which a mixture must be able to reach the best, or it is dropped."""
SOME, BY_PARAMETER = 2**14, 2
"""Rows in which starts first go on, or so many for each parameter of a mixture, if these are more."""
FAR = 5.0
r"""Standard errors of the difference between two mixtures' means of $\log p(x)$ that chance does not explain."""


# equal only to itself: tensors have no one answer to whether they are equal
@dataclass(frozen=True, eq=False)
class Mixture:
    r"""One of several.

    Args:
        parameters: Of its components, by their names in a table.
        counts: Rows that each component explains.
        mean: Mean of $\log p(x)$ over the rows, nats.
        bounded: Whether it is away from the floor of the variances and has rows enough for its covariances.
        ended: Whether EM has led it to its end.
    """

    parameters: dict[str, Tensor]
    counts: Float[Tensor, " c"]
    mean: float = -torch.inf
    bounded: bool = True
    ended: bool = False


@torch.no_grad()
def best_of(joint: Joint, x: Float[Tensor, "n *x"], seeds: Sequence[int], tolerance: float) -> None:
    r"""Set a mixture to the best of several that EM leads to, each from its own k-means.

    A mixture that ends at the floor of a variance, or with too few rows for a covariance, is kept only if all do: its
    likelihood has no maximum, and how large it is says nothing.

    Args:
        joint: A categorical prior and a table of Gaussians, which says what the parameters are relative to.
        x: Training rows.
        seeds: Of k-means, one for each mixture; the first one also chooses the rows that EM begins with.
        tolerance: Change of the mean of $\log p(x)$ in nats below which a mixture has converged.
    """
    prior, likelihood = joint.prior, joint.likelihood
    assert isinstance(prior, Categorical)
    assert isinstance(likelihood, Component)
    template = _measured(likelihood, x)
    size = max(SOME, BY_PARAMETER * (template.degrees_of_freedom + len(template.offsets) - 1))
    if 2 * size > len(x):
        found = _led(template, x, _started(template, x, seeds), tolerance)
    else:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seeds[0]))[:size]
        first, others = _contenders(template, x, chosen.to(x.device), seeds, tolerance)
        found = _led(template, x, first, tolerance, PATIENCE) + others
    # those that others were dropped for may have come to the floor since
    while not any(one.ended and one.bounded for one in found) and (dropped := [o for o in found if not o.ended]):
        found = [one for one in found if one.ended] + _led(template, x, dropped, tolerance, PATIENCE)
    best = _best(found)
    prior.maximise({"counts": best.counts})
    likelihood.counts.copy_(best.counts)
    for name, parameter in likelihood.named_parameters():
        parameter.copy_(best.parameters[name])


def _best(mixtures: Iterable[Mixture]) -> Mixture:
    return max(mixtures, key=lambda one: (one.ended, one.bounded, one.mean))


def _measured(likelihood: Component, x: Tensor) -> Component:
    # float64, on its device: the parameters are rounded once, when one mixture is kept
    template = deepcopy(likelihood).to(likelihood.centre)
    template.measure(x.flatten(1))
    return template


def _started(
    template: Component, x: Tensor, seeds: Sequence[int], chosen: Int[Tensor, " m"] | slice = slice(None)
) -> list[Mixture]:
    """The mixtures of the clusters that k-means finds among all rows, of what is in the chosen ones."""
    count, inside = len(template.offsets), template.starting_rows(x.flatten(1))
    some = inside[chosen]
    table = _table(template, len(some), [_of(template, 0, count)] * len(seeds))
    table.start(some, *(clusters(inside, count, seed, some=some) for seed in seeds))
    return [_of(table, start, count) for start in range(len(seeds))]


def _contenders(
    template: Component, x: Tensor, chosen: Int[Tensor, " m"], seeds: Sequence[int], tolerance: float
) -> tuple[list[Mixture], list[Mixture]]:
    """Where EM leads the starts in some rows: those that may be the best in all rows, and those that are far behind.

    One that comes to the floor of a variance among so few rows is left where it began, to try among all.
    """
    started, x = _started(template, x, seeds, chosen), x[chosen]
    led = _led(template, x, started, tolerance)
    log_px, _ = _table(template, len(x), led).expect(x, _log_weights(torch.cat([o.counts for o in led]), len(led)))
    far = _far(log_px, torch.tensor([one.bounded for one in led])).tolist()
    first, others = [], []
    for start, end, away in zip(started, led, far, strict=True):
        to = others if away and end.bounded else first
        to.append(replace(end, ended=False) if end.bounded else start)
    return first, others


def _led(
    template: Component, x: Tensor, mixtures: Sequence[Mixture], tolerance: float, patience: float = torch.inf
) -> list[Mixture]:
    """Where EM leads each mixture in these rows: to its end, or to where it was dropped."""
    count, found = len(template.offsets), list(mixtures)
    table, rows = _table(template, len(x), mixtures), template.prepared(x)
    numbers, last = range(len(mixtures)), torch.full((len(mixtures),), -torch.inf, dtype=torch.float64)
    best = -torch.inf
    for round_ in range(1, ROUNDS + 1):
        log_px, sums = table.expect(rows, _log_weights(table.counts, len(numbers)))
        means = log_px.mean(-1).cpu()
        settled = (means - last).abs() < tolerance if round_ < ROUNDS else torch.ones(len(means), dtype=torch.bool)
        reach = means + patience * (means - last)
        if round_ == 1 and patience < torch.inf:
            # the gain is not known yet
            reach = means.where(_far(log_px, _bounded(table, len(numbers)).cpu()), reach)
        # asked only where something hangs on it: it takes singular values of all components
        if settled.any() or (reach < means.max().clamp_min(best)).any():
            bounded = _bounded(table, len(numbers)).cpu()
            best = max([best, *means[bounded].tolist()])
            left = ~settled & ~(reach < best)
            for i in (~left).nonzero().flatten().tolist():
                found[numbers[i]] = _of(table, i, count, means[i].item(), bool(bounded[i]), bool(settled[i]))
            if not left.any():
                break
            kept = left.nonzero().flatten().tolist()
            numbers, means = [numbers[i] for i in kept], means[left]
            table = _table(template, len(x), [_of(table, i, count) for i in kept])
            sums = {name: value.unflatten(0, (-1, count))[kept].flatten(0, 1) for name, value in sums.items()}
        last = means
        table.maximise(sums)
    return found


def _far(log_px: Float[Tensor, "s n"], bounded: Bool[Tensor, " s"]) -> Bool[Tensor, " s"]:
    """Which mixtures are further behind the best bounded one than chance explains, by the rows they differ in."""
    if not bounded.any():
        return torch.zeros_like(bounded)
    best = log_px.mean(-1).cpu().masked_fill(~bounded, -torch.inf).argmax()
    behind = log_px[best] - log_px
    return (behind.mean(-1) > FAR * behind.std(-1) / behind.shape[-1] ** 0.5).cpu()


def _table(template: Component, rows: int, mixtures: Sequence[Mixture]) -> Component:
    """Make one table of the components of all mixtures."""
    table = deepcopy(template)
    for name, parameter in template.named_parameters():
        own = torch.cat([one.parameters[name] for one in mixtures])
        setattr(table, name, nn.Parameter(own, requires_grad=parameter.requires_grad))
    table.counts = torch.cat([one.counts for one in mixtures])
    table.mixtures = len(mixtures)
    table.rows.fill_(rows * len(mixtures))  # every row is explained by each mixture
    table.min_share = template.min_share / len(mixtures)
    return table


def _of(
    table: Component, place: int, count: int, mean: float = -torch.inf, bounded: bool = True, ended: bool = False
) -> Mixture:
    own = slice(place * count, (place + 1) * count)
    parameters = {name: parameter.detach()[own].clone() for name, parameter in table.named_parameters()}
    return Mixture(parameters, table.counts[own].clone(), mean, bounded, ended)


def _bounded(table: Component, starts: int) -> Bool[Tensor, " s"]:
    return ~(table.at_the_floor | table.too_few).unflatten(0, (starts, -1)).any(-1)


def _log_weights(counts: Float[Tensor, " m"], starts: int) -> Float[Tensor, "s c"]:
    shares = counts.unflatten(0, (starts, -1))
    # no log of 0: the difference of two of them would be NaN
    return (shares / shares.sum(-1, keepdim=True)).clamp_min(torch.finfo(shares.dtype).tiny).log()
