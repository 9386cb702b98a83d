"""One failure budget for the whole suite, and the only way a test may judge a random mean.

A check fails by chance with probability at most BUDGET / CHECKS, so the suite does with at most BUDGET. Every check
also says the smallest bias it would detect with probability 0.999, and refuses to be blinder than it was asked to be.
"""

from scipy.stats import norm
from torch import Tensor

BUDGET = 1e-6
CHECKS = 2000
THRESHOLD = float(norm.isf(BUDGET / CHECKS / 2))
POWER = float(norm.isf(1e-3))


def assert_mean(samples: Tensor, truth: Tensor | float, detects: float) -> None:
    """The mean over the first axis is ``truth``; a bias of ``detects`` (absolute, any entry) would have been seen."""
    mean, error = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    worst = float(error.max())
    assert (THRESHOLD + POWER) * worst <= detects, f"blind: detects {(THRESHOLD + POWER) * worst:.3g}, asked {detects}"
    std = (mean - truth).abs()
    assert bool((std <= THRESHOLD * error + 1e-12).all()), f"bias {float(std.max()):.3g}, error {worst:.3g}"


def assert_not_above(samples: Tensor, limit: Tensor | float) -> None:
    """The mean over the first axis does not exceed ``limit``."""
    error = samples.std(0) / len(samples) ** 0.5
    assert bool((samples.mean(0) <= limit + THRESHOLD * error + 1e-12).all())
