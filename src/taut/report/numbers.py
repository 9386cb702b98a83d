"""Numbers of nats in words: the same digits on the terminal, on the page and in every figure."""

import math
from collections.abc import Callable

DIGITS = 3
"""Decimals of a number of nats."""
MOST_DIGITS = 6
"""The decimals that a difference of nats between two float32 scores can have."""


def number(value: float | None, digits: int = DIGITS) -> str:
    """A number of nats; empty where there is none, no minus zero."""
    # NaN differs from itself
    if value is None or value != value:
        return ""
    # + 0.0 turns minus zero into zero
    return f"{value:.3e}" if abs(value) >= 1e7 else f"{round(value, digits) + 0.0:.{digits}f}"


def floored(value: float, digits: int = DIGITS) -> str:
    """A number that holds from below, in digits that never claim more than it."""
    return _whole(value, digits, math.floor)


def ceiled(value: float, digits: int = DIGITS) -> str:
    """A number that holds from above, in digits that never claim more than it."""
    return _whole(value, digits, math.ceil)


def _whole(value: float, digits: int, rounded: Callable[[float], int]) -> str:
    if not math.isfinite(value):
        return number(value, digits)
    # the digits that number() will show, so that it does not round a bound to the wrong side
    unit = 10.0**-digits if abs(value) < 1e7 else 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return number(rounded(value / unit) * unit, digits)


def interval(low: float, high: float | None, *, exact: bool, digits: int = DIGITS, unit: str = "") -> str:
    """The gap as ``= a``, ``in [a, b]`` or ``>= a``; ``about a`` where noise makes the ends cross.

    Args:
        low: Its lower end, nats.
        high: Its upper end, nats, or ``None`` where no finite one is known.
        exact: Whether the lower end is the gap itself.
        digits: Decimals.
        unit: Written behind the numbers.
    """
    if exact:
        return f"= {number(low, digits)}{unit}"
    if high is None:
        return f">= {number(low, digits)}{unit}"
    if high < low:
        return f"about {number((low + high) / 2, digits)}{unit}, ends cross by noise"
    return f"in [{number(low, digits)}, {number(high, digits)}]{unit}"


def digits_for(scale: float) -> int:
    """Decimals that show two digits of ``scale``, and at least those of a table."""
    if not math.isfinite(scale) or scale <= 1e-6:
        return DIGITS
    return min(max(DIGITS, 1 - math.floor(math.log10(scale))), MOST_DIGITS)
