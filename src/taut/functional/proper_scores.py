r"""Proper scores of draws: of all forecasts the distribution of the truth itself has the least, on average.

A squared error asks for the mean, which is not what data look like: an honest draw of $p(x_{mis} \mid x_{obs})$ has
twice the squared error of the mean. These scores ask for the distribution (Gneiting & Raftery, 2007), and are the fair
ones of m draws (Ferro, 2014): their expectation is the score of the distribution that the draws are from, whatever m.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ENSEMBLE = 99
"""Draws that are scored: ranks of the truth among 99 are a hundred, and cut intervals of 50 and 90% exactly."""
PAIRS = 1 << 22
"""Distances of pairs of draws that are held at once."""


def crps(draws: Float[Tensor, "m *x"], truth: Float[Tensor, "*x"]) -> Float[Tensor, "*x"]:
    r"""Continuous ranked probability score of every cell, in its unit; less is better.

    $\frac1m \sum_i |x_i - y| - \frac{1}{m (m - 1)} \sum_{i < j} |x_i - x_j|$. For zeros and ones that is the Brier
    score $(p - y)^2$ of their probability; a single draw is the forecast that is certain of it: its absolute error.

    Args:
        draws: Draws of the forecast.
        truth: What came; NaN gives NaN.

    >>> crps(torch.tensor([0.0, 2.0]), torch.tensor(1.0)).item()
    0.0
    """
    m = len(draws)
    apart = (draws - truth).abs().mean(0)
    if m == 1:
        return apart
    # of sorted numbers the i-th is the larger in i pairs and the smaller in m - 1 - i
    times = torch.arange(m, dtype=draws.dtype, device=draws.device) * 2 - (m - 1)
    return apart - torch.tensordot(times, draws.sort(0).values, 1) / (m * (m - 1))


def energy_score(draws: Float[Tensor, "m b *x"], truth: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    r"""Energy score of every datum, which sees how its cells depend on one another; less is better.

    $\frac1m \sum_i \lVert x_i - y \rVert - \frac{1}{m (m - 1)} \sum_{i < j} \lVert x_i - x_j \rVert$; of one cell
    the CRPS.

    Args:
        draws: Draws of the forecast.
        truth: What came.
    """
    forecast, came = draws.flatten(2), truth.flatten(1)
    m = len(forecast)
    apart = (forecast - came).norm(dim=-1).mean(0)
    if m == 1:
        return apart
    # without the products of the matrix form, in which near draws lose their digits
    exactly = "donot_use_mm_for_euclid_dist"
    parts = forecast.transpose(0, 1).split(max(1, PAIRS // m**2))
    pairs = torch.cat([torch.cdist(part, part, compute_mode=exactly).sum((1, 2)) for part in parts])
    return apart - pairs / (2 * m * (m - 1))


def covered(draws: Float[Tensor, "m *x"], truth: Float[Tensor, "*x"], share: float) -> Float[Tensor, "*x"]:
    """Tell whether the central interval of a share holds the truth, by its rank among the draws.

    The rank of the truth among m draws of its own distribution is each of the m + 1 with the same probability. Where
    values repeat, as of counts, it is one of several: the part of those that lies inside.

    Args:
        draws: Draws of the forecast; (1 - share) (m + 1) / 2 must be whole, as for 50 and 90% of 99 draws.
        truth: What came; a NaN is in no interval.
        share: Probability that the interval holds.

    Raises:
        ValueError: If so many draws have no such interval.
    """
    m = len(draws)
    outside = (1 - share) * (m + 1) / 2
    if abs(outside - round(outside)) > 1e-9:
        raise ValueError(f"{m} draws have no interval of {share:.0%}; 99 have those of 50% and 90%")
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    first = torch.maximum(below, torch.full_like(below, round(outside)))
    last = torch.minimum(below + equal, torch.full_like(below, m - round(outside)))
    held = (last - first + 1).clamp_min(0) / (equal + 1)
    return torch.where(truth.isnan(), torch.nan, held.to(draws.dtype))


def marginal_draws(x: Float[Tensor, "n *x"], count: int, seed: int) -> Float[Tensor, "m *x"]:
    """Draws of the observed values of every column, each by itself: what is known of a cell without the others.

    Args:
        x: Rows; NaN where a cell is missing. A column without a value gives zeros.
        count: Number of draws.
        seed: Seed of the choice.
    """
    rows = x.flatten(1)
    # the observed values of a column first, in the order of the rows
    ahead = rows.isnan().to(torch.uint8).argsort(dim=0, stable=True)
    known: Bool[Tensor, "n d"] = ~rows.isnan()
    uniform = torch.rand(count, rows.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    place = (uniform.to(rows.device) * known.sum(0)).long()
    return rows.gather(0, ahead.gather(0, place)).nan_to_num(0.0).unflatten(1, x.shape[1:])
