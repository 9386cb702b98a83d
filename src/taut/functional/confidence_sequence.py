r"""A lower limit of a mean that holds at every number of data at once, so that one may look, and look again.

For data with mean $\mu$ the partial sums behave, by the central limit theorem, like those of a normal sequence, and for
that the mixture of $\exp(\lambda S_n - n \lambda^2 / 2)$ over a half-normal $\lambda \geq 0$ of scale $\rho$ (Robbins,
1970) exceeds $1 / \alpha$ at some n with probability at most $\alpha$. It is
$2 \Phi(u) e^{u^2 / 2} / \sqrt{v + 1}$ with $v = n \rho^2$ and $u = S_n \rho / \sqrt{v + 1}$, and as
$\Phi(u) \geq 1 - e^{-u^2 / 2} / 2$, the mean lies above

$$\bar d_n - \hat\sigma_n \sqrt{\frac{2 (v + 1)}{n v} \log\Big(\frac12 + \frac{\sqrt{v + 1}}{2 \alpha}\Big)}$$

for all n together: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), one side
of it. "Asymptotic" is meant as for any interval of the form estimate and errors: it holds in the limit of many data,
and begins at ``BURN_IN``. Of skewed data it would be wrong too often long after that, for a mean of few data that has
not yet met the long tail comes with too small a deviation; so the distance is that at which the mean corrected for
skewness (Johnson, 1978) lies on the boundary, and there is no limit where the correction is too large to be one.
``python -m benchmarks.comparisons`` counts how often it is wrong.
"""

import math

import numpy as np
from jaxtyping import Float

LEVEL = 0.05
"""Probability of one or more wrong limits."""
BURN_IN = 50
"""Data below which nothing is said."""
TARGET = 1_000
"""Data at which the limit is closest to the mean; chosen before any data, or the level would not hold."""
MOST = 10_000_000
"""Data beyond which nobody asks how many more are needed."""

Values = Float[np.ndarray, "*v"]


def margin(n: int, level: float = LEVEL) -> float:
    """Distance of the limit from the mean of n data, in standard deviations, where they are not skewed."""
    logarithm = -2 * math.log(LEVEL)
    v = n * (logarithm + math.log(logarithm) + 1) / TARGET
    return math.sqrt(2 * (v + 1) / (n * v) * math.log(0.5 + math.sqrt(v + 1) / (2 * level)))


def distance(n: int, skewness: Values, level: float = LEVEL) -> Values:
    r"""Distance of the lower limit from the mean of n data, in standard deviations; infinite where there is none.

    Johnson's corrected distance $u + \gamma / (6 n) + \gamma u^2 / 3$ equals ``margin`` at it. A tail to the right, of
    which a mean that is too high has seen too much, makes the limit safe without a correction, and gets none.

    Args:
        n: Data.
        skewness: Of the data, third moment over the cube of the deviation.
        level: Probability that the limit is above the mean at one n or more.
    """
    if n < BURN_IN:
        return np.full_like(skewness, np.inf)
    straight = margin(n, level)
    tail = np.maximum(-skewness, 0.0)
    root = 1 - 4 / 3 * tail * (straight + tail / (6 * n))
    # the solution of the quadratic equation in the form that does not divide by a tail of 0
    found = 2 * (straight + tail / (6 * n)) / (1 + np.sqrt(np.maximum(root, 0.0)))
    return np.where(root > 0, found, np.inf)


def lower_limit(mean: Values, std: Values, skewness: Values, n: int, level: float = LEVEL) -> Values:
    """What the mean of the population is above, at every n at once, with probability 1 - ``level``.

    Args:
        mean: Of n data.
        std: Their standard deviation.
        skewness: Their skewness.
        n: Data.
        level: Probability that it is wrong.
    """
    if n < BURN_IN:
        return np.full_like(mean, -np.inf)
    # the limit of equal values is their mean, and not infinity times 0
    return mean - np.where(std > 0, std, 0.0) * np.where(std > 0, distance(n, skewness, level), 0.0)


def needed(mean: float, std: float, skewness: float, level: float = LEVEL) -> int | None:
    """Data at which the limit would pass 0 if mean, deviation and skewness stayed as they are; None if beyond ``MOST``.

    Args:
        mean: Above 0.
        std: Standard deviation.
        skewness: Skewness.
        level: Probability that the limit is wrong.
    """

    def suffices(n: int) -> bool:
        return bool(mean > std * float(distance(n, np.array(skewness), level)))

    if not suffices(MOST):
        return None
    low, high = BURN_IN - 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
