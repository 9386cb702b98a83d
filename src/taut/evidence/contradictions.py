"""Contradictions between estimators of the same data."""

import math
from collections.abc import Sequence

from taut.evidence.log_evidence import LogEvidence
from taut.functional.consistency import REMEDY, Judge, Value
from taut.functional.statistics import standard_error
from taut.functional.types import PerDatum

MISSED = "the upper bound, which rests on q alone, is too low where q misses a mode: do not use it for this run"


def impossible(evidence: Sequence[LogEvidence], *, mass: bool, where: str) -> dict[str, str]:
    """Name the estimators of the same data whose values cannot be, and say why.

    An upper bound that rests on samples of q alone is too low where q misses a mode, so where it contradicts an exact
    value, or a lower bound that holds whatever the weights (Markov's inequality), it alone is void; elsewhere both are,
    because nothing tells which is wrong.

    Args:
        evidence: What each estimator says, the ELBO included.
        mass: Whether p(x) is a probability mass.
        where: The data, in words.

    Returns:
        From the names of void ones to a sentence.
    """
    below, above = ([one for one in evidence if one.kind in (kind, "exact")] for kind in ("lower", "upper"))
    pairs = [(low, high) for low in below for high in above if not low.kind == high.kind == "exact"]
    checks, void = max(1, len(pairs) + mass * len(evidence)), {}
    for one in evidence if mass else ():
        error, freedom = _error(one.value, one.variance, one.k)
        judge = Judge(len(one.value), freedom, checks)
        sentence = judge.above_mass(Value(one.name, one.kind, one.mean, error), where)
        void |= {} if sentence is None else {one.name: sentence}
    for low, high in pairs:
        counts = [k for k in (low.k, high.k) if k is not None]
        error, freedom = _error(low.value - high.value, _sum_of_errors(low, high), min(counts, default=None))
        judge = Judge(len(low.value), freedom, checks)
        of_q = high.kind == "upper" and not high.unbiased and (low.unbiased or low.kind == "exact")
        ends = Value(low.name, low.kind, low.mean), Value(high.name, high.kind, high.mean)
        sentence = judge.crossed(*ends, where, error, remedy=MISSED if of_q else REMEDY)
        if sentence is not None:
            void |= {one.name: sentence for one in ([high] if of_q else [low, high])}
    return void


def _sum_of_errors(low: LogEvidence, high: LogEvidence) -> PerDatum:
    """Variance of a difference at most: both may be of the same draws."""
    return (low.variance.sqrt() + high.variance.sqrt()).square()


def _error(values: PerDatum, variance: PerDatum, k: int | None) -> tuple[float, float]:
    """Standard error of a mean and its degrees of freedom: of the noise, or over the data where noise is unknown."""
    n = len(values)
    noise = variance.sum().sqrt().item() / n
    if math.isfinite(noise):
        return noise, math.inf if k is None else float(n * max(k - 1, 1))
    return standard_error(values).item(), float(n - 1)
