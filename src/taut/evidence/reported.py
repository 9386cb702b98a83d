"""The number that a package reports as log p(x), held against the bracket."""

import math

from taut.errors import UserError
from taut.evidence.gap import interval
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalResult

MISSED = ", unless q misses a mode"
"""What an upper bound of samples of q leaves open."""
ROUNDED = 1e-3
"""Nats that a number of three decimals leaves open, twice over."""


def compared(reported: float, answer: EvalResult, *, mass: bool = False) -> str:
    """Say in words where a reported log p(x) lies.

    A bound counts as passed beyond twice its Monte Carlo error at fixed data: the reported number is to be one of the
    same data, so that what the data differ by moves both alike.

    Args:
        reported: Mean log p(x) in nats per datum.
        answer: The bracket.
        mass: Whether p(x) is a probability mass.

    Raises:
        UserError: If the number is not finite, or is the logarithm of no mass.
    """
    if not math.isfinite(reported):
        raise UserError(f"reported={reported} must be a finite number of nats per datum.")
    if mass and reported > 0:
        raise UserError(
            f"reported={_number(reported)} is above 0, and p(x) is a probability mass here, whose log is not; give "
            f"nats per datum, reported={_number(-reported)} where the package reports the negative."
        )
    gap = interval(answer.trusted_elbo, answer.trusted)
    by_name = {one.name: one for one in [answer.elbo, *answer.trusted]}
    lower, upper = by_name[gap.lower], None if gap.upper is None else by_name[gap.upper]
    said = f"reported {_number(reported)}"
    if gap.exact:
        return f"{said} {_beside_exact(reported, lower)}"
    if upper is not None and reported > upper.mean + slack(upper):
        tail = MISSED if not upper.unbiased else ""
        return f"{said} lies above the upper bound {_number(upper.mean)}: it is no log-likelihood{tail}"
    if reported < lower.mean - slack(lower):
        about = "; it is about the ELBO" if _near(reported, answer.elbo) and lower is not answer.elbo else ""
        return (
            f"{said} lies below the lower bound {_number(lower.mean)}: as a log-likelihood it is at least "
            f"{_number(lower.mean - reported)} nats too low{about}"
        )
    if upper is None:
        return (
            f"{said} lies above the lower bound {_number(lower.mean)}, and there is no upper bound to hold it against"
        )
    return (
        f"{said} lies inside the bracket from {_number(lower.mean)} to {_number(upper.mean)}: nothing here speaks "
        "against it as a log-likelihood"
    )


def slack(bound: LogEvidence) -> float:
    """Twice the Monte Carlo error of a mean, if that is known, and no less than the digits of a report leave open."""
    error = bound.monte_carlo_error
    return max(2 * error, ROUNDED) if math.isfinite(error) else ROUNDED


def _beside_exact(reported: float, exact: LogEvidence) -> str:
    apart = reported - exact.mean
    value = f"log p(x), which is exactly {_number(exact.mean)}"
    if abs(apart) <= slack(exact):
        return f"agrees with {value}"
    if apart > 0:
        return f"lies {_number(apart)} nats above {value}: it is no log-likelihood"
    return f"lies {_number(-apart)} nats below {value}: it is a lower bound of it at most"


def _near(reported: float, bound: LogEvidence) -> bool:
    return abs(reported - bound.mean) <= slack(bound)


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
