"""Densities that are held against their sampler, and against 1."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.stats import kstest
from torch import Tensor
from torch.distributions import Distribution

from taut.testing.rules import BUDGET, CHECKS, require, require_close, require_frequencies, require_mean

MOST_COORDINATES = 3
"""Coordinates up to which a box around a sample holds enough of the others."""
SAMPLES = 40_000
POINTS = 8001
HALF_WIDTH = 0.75
"""Scales from the middle of the box to its sides."""
QUARTILES = 1.349
"""Standard deviations between the quartiles of a normal distribution."""


def check_draws(d: Distribution, what: str) -> None:
    """Hold the sampler of a distribution against its density, which must sum or integrate to 1.

    Args:
        d: A distribution with batch ``()`` or ``(1,)``.
        what: Its name in sentences.

    Raises:
        ContractError: If they disagree.
    """
    rule = f"samples of {what} have its density, which is normalised"
    with torch.no_grad():
        if d.has_enumerate_support:
            _check_categories(d, rule)
            return
        draws = d.sample(torch.Size([SAMPLES])).flatten(0, -2)
        coordinates = draws.shape[-1]
        require(
            coordinates <= MOST_COORDINATES, f"{what} is small enough for its density to be integrated",
            f"{MOST_COORDINATES} coordinates of z at most", coordinates,
        )  # fmt: skip
        _check_box(d, draws, rule)
        if coordinates == 1:
            log_prob = lambda z: d.log_prob(z.view(-1, *d.batch_shape, 1)).flatten()  # noqa: E731
            check_line(log_prob, draws[:, 0], rule)


def _check_categories(d: Distribution, rule: str) -> None:
    every = d.enumerate_support()
    mass = d.log_prob(every).exp()
    require_close(mass.sum(0), torch.ones_like(mass[0]), rule, atol=1e-5)
    draws = d.sample(torch.Size([SAMPLES // 2])).unsqueeze(1)
    require_frequencies((draws == every).all(-1), mass, rule)


def _check_box(d: Distribution, draws: Float[Tensor, "n d"], rule: str) -> None:
    r"""$E_p[r(z) / p(z)] = 1$ for r uniform on a box inside the support, about the sample nearest to the middle."""
    middle, scale = _middle_and_scale(draws)
    centre = draws[((draws - middle) / scale).norm(dim=1).argmin()]
    inside = ((draws - centre).abs() < HALF_WIDTH * scale).all(1)
    log_p = d.log_prob(draws.view(-1, *d.batch_shape, draws.shape[-1])).flatten()
    ratio = torch.where(inside, (-log_p - (2 * HALF_WIDTH * scale).log().sum()).exp(), 0.0)
    require_mean(ratio, 1.0, f"{rule} (mean of r(z) / p(z), r uniform on a box)", detects=0.2)


def _middle_and_scale(draws: Float[Tensor, "n *d"]) -> tuple[Float[Tensor, "*d"], Float[Tensor, "*d"]]:
    """Median, and a standard deviation by the quartiles where that is less: heavy tails have none of their own."""
    # float64: a quantile is interpolated, and torch takes some types only
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=draws.device)
    low, middle, high = draws.double().quantile(levels, dim=0)
    scale = torch.minimum((high - low) / QUARTILES, draws.double().std(0).nan_to_num(torch.inf))
    return middle.to(draws), scale.to(draws)


def check_line(log_prob: Callable[[Tensor], Tensor], draws: Float[Tensor, " n"], rule: str) -> None:
    r"""Integrate a density on a line, and hold the draws against its distribution function (Kolmogorov-Smirnov).

    By $u = \frac{2}{\pi} \arctan \frac{z - m}{s}$, which puts the whole line into (-1, 1) and has a finite density
    there as long as the tails of z are no heavier than those of Cauchy's distribution.
    """
    middle, scale = (value.double() for value in _middle_and_scale(draws))
    # without the ends, which are infinite in z
    grid = torch.linspace(-1, 1, POINTS + 2, dtype=torch.float64)[1:-1]
    z = middle.cpu() + scale.cpu() * (torch.pi / 2 * grid).tan()
    stretch = scale.cpu() * torch.pi / 2 * (1 + ((z - middle.cpu()) / scale.cpu()).square())
    # NaN is what a bijection gives outside of its range, where there is no density
    density = log_prob(z.to(draws)).double().exp().nan_to_num(0.0).cpu() * stretch
    below = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, grid)]).to(grid)
    require_close(below[-1], torch.ones_like(below[-1]), f"{rule} (integral)", atol=2e-3)
    some = (2 / torch.pi * ((draws[:4000].double() - middle) / scale).atan()).cpu().contiguous()
    at = torch.bucketize(some, grid).clamp(1, POINTS - 1)
    share = (some - grid[at - 1]) / (grid[at] - grid[at - 1])
    values = below[at - 1] + share * (below[at] - below[at - 1])
    p = float(kstest(values.clamp(0, 1).numpy(), "uniform").pvalue)
    require(p > BUDGET / CHECKS, f"{rule} (Kolmogorov-Smirnov)", f"a p-value above {BUDGET / CHECKS:.0e}", f"{p:.1e}")
