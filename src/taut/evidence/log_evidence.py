"""Values of an estimator of log p(x), and their certificates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taut.functional.consistency import Kind
from taut.functional.statistics import standard_error
from taut.functional.types import PerDatum


@dataclass(frozen=True, repr=False)
class LogEvidence:
    r"""Values of an estimator of $\log p(x)$ for each datum; nats, float64.

    Args:
        name: Name of the estimator.
        kind: ``exact``; ``lower`` or ``upper``: a bound in expectation over the noise; ``estimate``: no side.
        value: The value of each datum.
        variance: Monte Carlo variance of each value at fixed x; 0 where there is no noise, NaN where it is
            unknown: one sample, or one draw of the posterior, does not tell how samples differ.
        k: Number of samples of each datum, where there are any.
        unbiased: Whether the value is the log of an unbiased estimate of p(x) (lower) or minus that of 1/p(x)
            (upper), so that it can be certified.
        diagnostics: Further numbers for each datum, by name.
        curve: IWAE-k at the block sizes of K, ``[sizes, b]``.
    """

    name: str
    kind: Kind
    value: PerDatum
    variance: PerDatum
    k: int | None = None
    unbiased: bool = False
    diagnostics: dict[str, PerDatum] = field(default_factory=dict)
    curve: Float[Tensor, "sizes b"] | None = None

    def __repr__(self) -> str:
        k = "" if self.k is None else f", K = {self.k}"
        errors = f"s.e. {self.standard_error:.3g} over the data, {self.monte_carlo_error:.3g} at fixed data"
        mean = f"{self.mean:.6g} nats, the mean of {len(self.value)} data"
        return f"LogEvidence({self.name}, {self.kind}{k}: {mean}; {errors})"

    @property
    def mean(self) -> float:
        """Mean over the data."""
        return self.value.mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the data; NaN for a single datum."""
        return standard_error(self.value).item()

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the mean at fixed data: the noise of the samples alone."""
        return self.variance.sum().sqrt().item() / len(self.value)

    def certificate(self, confidence: float = 0.95) -> float:
        """The certificate of this estimator alone, chosen before its values were seen: see :func:`certificate`.

        Raises:
            ValueError: If the estimator is not the log of an unbiased one, or the confidence not between 0 and 1.
        """
        return certificate([self], confidence)

    def select(self, index: Int[Tensor, " m"]) -> "LogEvidence":
        """Some of the data, or all in another order."""
        return self._each(lambda values: values[index], lambda curve: curve[:, index])

    def cpu(self) -> "LogEvidence":
        """Copy the numbers to main memory."""
        return self._each(Tensor.cpu, Tensor.cpu)

    def _each(self, change: Callable[[Tensor], Tensor], change_curve: Callable[[Tensor], Tensor]) -> "LogEvidence":
        return replace(
            self,
            value=change(self.value),
            variance=change(self.variance),
            diagnostics={name: change(values) for name, values in self.diagnostics.items()},
            curve=None if self.curve is None else change_curve(self.curve),
        )

    @staticmethod
    def cat(parts: Sequence["LogEvidence"]) -> "LogEvidence":
        """Append the values of the same estimator on further data."""
        first = parts[0]
        curves = [part.curve for part in parts if part.curve is not None]
        return LogEvidence(
            first.name,
            first.kind,
            torch.cat([part.value for part in parts]),
            torch.cat([part.variance for part in parts]),
            first.k,
            first.unbiased,
            {name: torch.cat([part.diagnostics[name] for part in parts]) for name in first.diagnostics},
            torch.cat(curves, 1) if curves else None,
        )


def certificate(evidence: Sequence[LogEvidence], confidence: float = 0.95, asked: int | None = None) -> float:
    r"""A bound of the mean of $\log p(x)$ over the data that holds with this probability, whatever the weights.

    $P(\log \hat Z > \log Z + b) \le e^{-b}$ for every unbiased $\hat Z \ge 0$ (Markov's inequality; Burda et al., 2016,
    appendix B). The noise of n data is independent, so the product of their estimates is unbiased for the product of
    $p(x_i)$, and so is the mean of the products of m estimators, however they depend on each other. Certified is

    $$\frac1n \Big( \log \frac1m \sum_{e=1}^m e^{\sum_i \log \hat Z_{ei}} + \log(1 - \text{confidence}) \Big),$$

    at most $\log m / n$ below the best of the estimators' own: that one, picked by its value, would hold with less
    than this probability. Upper bounds, made of unbiased estimates of $1 / p(x)$, have the mirror image.

    Args:
        evidence: Estimators of the same data, all lower bounds or all upper bounds.
        confidence: The probability with which the bound holds.
        asked: Number m of estimators that were asked for, where values of some have since been rejected: those count
            as $\hat Z = 0$, which keeps the bound valid however they were chosen.

    Raises:
        ValueError: If an estimator is not the log of an unbiased one, or the confidence not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    for one in evidence:
        if not one.unbiased:
            raise ValueError(f"{one.name} is not the log of an unbiased estimate and cannot be certified")
    sign = -1 if evidence[0].kind == "upper" else 1
    products = torch.stack([sign * one.value.sum() for one in evidence])
    b = -math.log1p(-confidence) + math.log(asked or len(evidence))
    return sign * (products.logsumexp(0).item() - b) / len(evidence[0].value)
