"""The contract of a likelihood."""

import copy
import itertools
from collections.abc import Callable
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.functional.missing import observed
from taut.model.likelihood.base import Likelihood
from taut.testing.densities import check_line
from taut.testing.rules import (
    perturbed,
    reproducible,
    require,
    require_close,
    require_every_gradient,
    require_frequencies,
    require_mean,
    require_registered,
    require_same,
    roughly,
)

SAMPLES = 4000
MOST_BINARY = 8
"""Cells of zeros and ones of which all images are scored."""


def check_likelihood(likelihood: Likelihood, z: Float[Tensor, "k b *z"]) -> None:
    """Hold a likelihood against its contract: p(x | z) of batch ``(k, b)`` and event ``x_shape``.

    Each pair of z and x is scored as it would be alone; samples have the mean, and their cells the density, which sums
    or integrates to 1; missing cells (NaN) are left out of the density, or hidden as often as a model of the mask says,
    and ``given`` keeps the observed ones; the gradient reaches every parameter; the state is in ``state_dict``; tensors
    are parameters or buffers.

    Args:
        likelihood: A likelihood.
        z: Draws of z, several for each of several data; of a category, so many that each occurs.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(
        isinstance(likelihood, Likelihood), "a likelihood is a taut.model.likelihood.base.Likelihood", "one",
        type(likelihood).__name__,
    )  # fmt: skip
    with reproducible(likelihood):
        d, (k, b), x_shape = likelihood(z), z.shape[:2], tuple(likelihood.x_shape)
        x = d.sample()[0]
        require_same(tuple(d.batch_shape), (k, b), "the batch shape of likelihood(z)")
        require_same(tuple(d.event_shape), x_shape, "the event shape of likelihood(z) is x_shape")
        require_same(tuple(d.sample().shape), (k, b, *x_shape), "the shape of likelihood(z).sample()")
        require_same(tuple(d.mean.shape), (k, b, *x_shape), "the shape of likelihood(z).mean")
        require_same(tuple(d.log_prob(x).shape), (k, b), "the shape of log_prob of one x for each datum")
        likelihood.check(x)
        _check_pairs(likelihood, z, x, d.log_prob(x))
        _check_missing(likelihood, d, x)
        with torch.no_grad():
            _check_draws(likelihood, z[:1, :1], x)
        value = likelihood(z).log_prob(x)
        require_every_gradient(likelihood, value * torch.rand_like(value))
        _check_state(likelihood, z, x)


def _check_pairs(likelihood: Likelihood, z: Tensor, x: Tensor, table: Tensor) -> None:
    close = roughly(likelihood)
    for i, j in itertools.product({0, len(z) - 1}, {0, len(x) - 1}):
        alone = likelihood(z[i : i + 1, j : j + 1]).log_prob(x[j : j + 1])[0, 0]
        require_close(alone, table[i, j], "log p(x | z) of a pair is what it is alone", rtol=close, atol=close)


def _check_missing(likelihood: Likelihood, d: Distribution, x: Tensor) -> None:
    found = d.log_prob(torch.full_like(x, torch.nan))
    if likelihood.models_mask:
        require(
            (found <= 0).all(), "log p(x | z) where every cell of x is missing (NaN)", "0 at most", f"{found.max():.3g}"
        )
    else:
        rule = "log p(x | z) where every cell of x is missing (NaN)"
        require_close(found, torch.zeros_like(found), rule, atol=1e-9)
    holes = x.masked_fill(torch.rand(x.shape) < 0.5, torch.nan)
    require(d.log_prob(holes).isfinite().all(), "log p(x | z) with missing cells", "finite numbers", "others")
    given = getattr(d, "given", None)
    require(given, "likelihood(z) has given(x), which fills missing cells", "one, as taut's Cells have", "none")
    assert given is not None
    filled = given(holes).sample()
    require(filled.isfinite().all(), "given(x).sample() fills every cell", "finite numbers", "others")
    kept = torch.where(observed(holes), filled == holes, True).all()
    require(kept, "given(x).sample() keeps the observed cells", "their values", "others")


def _check_draws(likelihood: Likelihood, z: Tensor, x: Tensor) -> None:
    d = likelihood(z)
    draws = d.sample(torch.Size([SAMPLES]))[:, 0, 0]
    most = float(draws.std(0).max())
    require_mean(draws, d.mean[0, 0], "samples of p(x | z) have its mean", detects=0.25 * most + 1e-9)
    rule = "the density of a cell of x, the others missing, is that of its samples and normalised"
    cells = draws.flatten(1)[:, 0]

    def log_prob(values: Tensor) -> Tensor:
        rows = x.new_full((len(values), prod(likelihood.x_shape)), torch.nan)
        rows[:, 0] = values
        return likelihood(z).log_prob(rows.unflatten(1, likelihood.x_shape))[0]

    if likelihood.models_mask:
        _check_hidden(likelihood, log_prob, draws)
        return
    if not likelihood.is_mass:
        check_line(log_prob, cells, rule)
        return
    numbers = _numbers(likelihood, cells)
    mass = log_prob(numbers).exp()
    require_close(mass.sum(), torch.ones_like(mass.sum()), rule, atol=1e-4)
    require_frequencies(cells[:, None] == numbers, mass, rule)
    if likelihood.binary and prod(likelihood.x_shape) <= MOST_BINARY:
        pixels = torch.cartesian_prod(*[x.new_tensor([0.0, 1.0])] * prod(likelihood.x_shape))
        every = pixels.view(-1, *likelihood.x_shape)
        total = d.log_prob(every).exp().sum()
        require_close(total, torch.ones_like(total), "p(x | z) sums to 1 over all x of zeros and ones", atol=1e-4)


def _check_hidden(likelihood: Likelihood, log_prob: Callable[[Tensor], Tensor], draws: Tensor) -> None:
    """The first cell is missing as often, and observed where, as the density of it and of the mask says."""
    cells = likelihood.hidden(draws).flatten(1)[:, 0]
    kept = torch.where(observed(cells), cells == draws.flatten(1)[:, 0], True).all()
    require(kept, "hidden(x) keeps the cells that it does not hide", "their values", "others")
    span = draws.max() - draws.min()
    grid = torch.linspace(float(draws.min() - span), float(draws.max() + span), 8001).to(draws)
    shown = torch.trapezoid(log_prob(grid).exp(), grid)
    missing = log_prob(draws.new_full((1,), torch.nan)).exp()
    rule = "hidden(x) hides a cell as often as the density of the mask says"
    require_frequencies(~observed(cells)[:, None], missing / (missing + shown), rule)
    rule = "the observed cells behind hidden(x) have the density of such cells"
    check_line(lambda values: log_prob(values) - shown.log(), cells[observed(cells)], rule)


def _numbers(likelihood: Likelihood, cells: Tensor) -> Tensor:
    """The values of a cell that carry its mass."""
    if likelihood.values is not None:
        return likelihood.values.to(cells)
    span = float(cells.max() - cells.min())
    return torch.arange(max(0.0, float(cells.min()) - span), float(cells.max()) + span + 20).to(cells)


def _check_state(likelihood: Likelihood, z: Tensor, x: Tensor) -> None:
    require_registered(likelihood)
    other, value = perturbed(likelihood), likelihood(z).log_prob(x)
    other.load_state_dict(copy.deepcopy(likelihood.state_dict()))
    require_close(other(z).log_prob(x), value, "state_dict holds all of the likelihood", rtol=1e-12, atol=1e-12)
    rounded = copy.deepcopy(likelihood).float()(z).log_prob(x.float())
    require(rounded.isfinite().all(), "a likelihood in single precision", "finite densities", "others")
