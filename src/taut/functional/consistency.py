r"""Inequalities that no correct score breaks; one that does is void.

The log of a probability mass is at most 0, a divergence at least 0, and no lower bound lies above the exact value or an
upper bound. Sampled values keep this in expectation, so a violation counts where it is beyond 4 combined errors, by
Student's t where few samples tell the error. Of many checks each is allowed more: for an unbiased estimate of p(x),
$P(\log \hat Z > \log Z + b) \le e^{-b}$ (Markov's inequality), so the total over n data may exceed by the log of
the number of checks. A correct run is voided in fewer than one of 10,000 checks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtr, stdtrit

from taut.errors import RunError

ERRORS = 4.0
"""Standard errors that noise may account for."""
ROUNDING, RELATIVE = 1e-3, 1e-6
"""Nats that the single precision of a network may account for: absolute, and of the value."""

Kind = Literal["exact", "lower", "upper", "estimate"]

REMEDY = (
    "a density of the model or of q is wrong or has no bound: train again with a lower optimizer.lr or "
    "trainer.precision=64-true, and check pieces of your own"
)


class Void(RunError):
    """A score breaks an inequality, so it is an error and not a score."""


@dataclass(frozen=True)
class Value:
    """A mean over data that is to be checked; nats.

    Args:
        name: What it is, in words.
        kind: ``exact``, ``lower``, ``upper`` or ``estimate``.
        mean: The mean.
        error: Its Monte Carlo standard error at fixed data; 0 where there is no noise.
    """

    name: str
    kind: Kind
    mean: float
    error: float = 0.0


@dataclass(frozen=True)
class Judge:
    """Decides what noise can account for.

    Args:
        n: Number of data of every mean.
        freedom: Degrees of freedom of the errors: n (K - 1) for K samples of each datum.
        checks: How many checks are made in all, those of other epochs included.
    """

    n: int
    freedom: float | int = math.inf
    checks: int = 1

    def allowance(self, error: float, size: float = 0.0) -> float:
        """Nats by which noise and rounding may break an inequality of means.

        Args:
            error: Combined standard error of both sides.
            size: Magnitude of the values.
        """
        times = ERRORS if math.isinf(self.freedom) else -float(stdtrit(max(self.freedom, 1), ndtr(-ERRORS)))
        rounding = max(ROUNDING, RELATIVE * abs(size))
        return times * error + math.log(self.checks) / self.n + rounding

    def above_mass(self, value: Value, where: str) -> str | None:
        """Reason that the log of a probability mass cannot be this value; ``None`` where it can."""
        # `not >` instead of `<=`, here and below: a NaN is no violation
        if value.kind == "upper" or not value.mean > self.allowance(value.error, value.mean):
            return None
        return (
            f"{where}: {value.name} is {value.mean:.6g} nats, but p(x) is a probability, whose log is at most 0; "
            f"{REMEDY}."
        )

    def negative(self, divergence: Value, where: str) -> str | None:
        """Reason that a divergence cannot be this value; ``None`` where it can."""
        if not -divergence.mean > self.allowance(divergence.error, divergence.mean):
            return None
        return f"{where}: {divergence.name} is {divergence.mean:.6g} nats, but a divergence is at least 0; {REMEDY}."

    def crossed(
        self, below: Value, above: Value, where: str, error: float | None = None, remedy: str = REMEDY
    ) -> str | None:
        """Reason that one value cannot lie above the other; ``None`` where it can.

        Args:
            below: A lower bound or an exact value.
            above: An upper bound or an exact value.
            where: The data, in words.
            error: Standard error of the difference, by default at most the sum of both.
            remedy: What to do.
        """
        error = below.error + above.error if error is None else error
        if not below.mean - above.mean > self.allowance(error, above.mean):
            return None
        kinds = {"exact": "exact", "lower": "lower bound", "upper": "upper bound"}
        return (
            f"{where}: {below.name} ({kinds[below.kind]}) is {below.mean:.6g} nats, above {above.name} "
            f"({kinds[above.kind]}) of {above.mean:.6g} by more than noise accounts for, so one of them is wrong; "
            f"{remedy}."
        )


def refuse(values: Sequence[Value], kl: Value, judge: Judge, *, mass: bool, where: str) -> None:
    """Stop at scores of one set of samples that cannot be.

    Args:
        values: Bounds and log p(x).
        kl: KL(q(z | x) || p(z)).
        judge: What noise accounts for.
        mass: Whether p(x) is a probability mass.
        where: The data, in words.

    Raises:
        Void: Naming the score, the data and what to do.
    """
    found = [judge.negative(kl, where)]
    if mass:
        found += [judge.above_mass(value, where) for value in values]
    exact = [value for value in values if value.kind == "exact"]
    lower = [value for value in values if value.kind == "lower"]
    found += [judge.crossed(below, above, where) for above in exact for below in lower]
    for sentence in found:
        if sentence is not None:
            raise Void(f"{sentence[:-1]}. This score is void.")
