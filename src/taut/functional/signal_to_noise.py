r"""Signal to noise of a stochastic gradient, and how it grows with the number of samples K.

$\mathrm{SNR} = \|E\,g\| \,/\, \sqrt{E\,\|g - E\,g\|^2}$ over all coordinates of a gradient g (Rainforth et al., 2018,
take it coordinate by coordinate and average). Its square is estimated without bias of the signal, by inner products of
different draws: a mean of absolute values would level off at the noise where there is no signal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

GROUPS = 20
"""Groups of draws, of which the error is told by leaving each out in turn."""
TOLD = 2.0
"""Errors that a squared signal must be above 0 for its logarithm to mean anything."""


class SignalToNoise(NamedTuple):
    """A ratio, and what is known of it.

    Args:
        value: The ratio; 0 where no signal is seen.
        error: Its standard error by the jackknife; NaN where no signal is seen.
        signal: Norm of the mean gradient.
        noise: Standard deviation of the gradient, over all its coordinates.
    """

    value: float
    error: float
    signal: float
    noise: float

    @property
    def told(self) -> bool:
        """True where the signal stands out of its error."""
        # relative to it, a square has twice the error of its root
        return self.value > 2 * TOLD * self.error


class GradientSums:
    """Sums over draws of a gradient, in groups; the draws themselves are not kept.

    Args:
        size: Number of coordinates.
        device: Where the gradients are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.sums = torch.zeros(GROUPS, size, dtype=torch.float64, device=device)
        self.squares = torch.zeros(GROUPS, dtype=torch.float64, device=device)
        self.counts = torch.zeros(GROUPS, dtype=torch.float64, device=device)

    def add(self, number: int, gradient: Float[Tensor, " p"]) -> None:
        """Count the draw of this number."""
        group, gradient = number % GROUPS, gradient.double()
        self.sums[group] += gradient
        self.squares[group] += gradient.square().sum()
        self.counts[group] += 1

    def ratio(self) -> SignalToNoise:
        """The ratio and its error, of two or more draws in every group."""
        total, squares, count = self.sums.sum(0), self.squares.sum(), self.counts.sum()
        whole = _parts(total.square().sum(), squares, count)
        rest = total - self.sums
        left = _parts(rest.square().sum(1), squares - self.squares, count - self.counts)
        ratios = left[0] / left[1]
        spread = (GROUPS - 1) / GROUPS * (ratios - ratios.mean()).square().sum()
        value = (whole[0] / whole[1]).clamp_min(0).sqrt()
        # that of the root, from that of the square
        error = spread.sqrt() / (2 * value) if value > 0 else torch.full_like(value, torch.nan)
        return SignalToNoise(
            value.item(), error.item(), whole[0].clamp_min(0).sqrt().item(), whole[1].clamp_min(0).sqrt().item()
        )


def _parts(squared_sum: Tensor, squares: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased squared signal and squared noise of some draws."""
    pairs = count * (count - 1)
    return (squared_sum - squares) / pairs, (count * squares - squared_sum) / pairs


def slope(ks: Sequence[int], ratios: Sequence[SignalToNoise]) -> tuple[float, float] | None:
    r"""Slope of $\log \mathrm{SNR}$ against $\log K$ by weighted least squares, and its standard error.

    Ratios that do not stand out of their error are left out; ``None`` where fewer than two are left.
    """
    kept = [(k, ratio) for k, ratio in zip(ks, ratios, strict=True) if ratio.told]
    if len(kept) < 2:
        return None
    x = np.log([k for k, _ in kept])
    y = np.log([ratio.value for _, ratio in kept])
    weights = np.array([(ratio.value / ratio.error) ** 2 for _, ratio in kept])
    centred = x - np.average(x, weights=weights)
    spread = float((weights * centred**2).sum())
    return float((weights * centred * y).sum()) / spread, spread**-0.5
