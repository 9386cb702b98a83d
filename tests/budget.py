"""One failure budget for the whole suite, and the only way a test may judge a random mean.

A check fails by chance with probability at most BUDGET / CHECKS, so the suite does with at most BUDGET. Every check
also says the smallest bias it would detect with probability 0.999, and refuses to be blinder than it was asked to be.
"""

from torch import Tensor

from taut.testing.rules import BUDGET, CHECKS, POWER, THRESHOLD, require_mean

__all__ = ["BUDGET", "CHECKS", "POWER", "THRESHOLD", "assert_mean", "assert_not_above"]


def assert_mean(samples: Tensor, truth: Tensor | float, detects: float) -> None:
    """The mean over the first axis is ``truth``; a bias of ``detects`` (absolute, any entry) would have been seen."""
    require_mean(samples, truth, "the mean", detects=detects)


def assert_not_above(samples: Tensor, limit: Tensor | float) -> None:
    """The mean over the first axis does not exceed ``limit``."""
    error = samples.std(0) / len(samples) ** 0.5
    assert bool((samples.mean(0) <= limit + THRESHOLD * error + 1e-12).all())
