"""Numbers and words of ``result.json`` from measured data.

A score comes one way: every estimator gives a ``LogEvidence``, ``loop.measure`` gathers them in an ``EvalResult``,
:func:`assessed` makes of that the dictionary that the terminal shows, and :func:`plain` what is written of it and read
back by the report.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from taut.evidence.diagnostics import ACTIVE, heavy_tailed, reliability_warnings, warning_sentences
from taut.evidence.gap import GapDecomposition, Interval, interval
from taut.evidence.information import Information
from taut.evidence.log_evidence import LogEvidence, certificate
from taut.evidence.loop import BETAS, EvalResult
from taut.functional.bounds import block_sizes
from taut.functional.statistics import standard_error
from taut.functional.types import PerDatum

SURPASSED = 3.0
"""Monte Carlo errors by which a better lower bound lies above importance sampling where the reader is told."""


def assessed(answer: EvalResult, confidence: float, *, annealable: bool) -> dict[str, Any]:
    """Every estimator, what they certify together, the interval for the gap, and the reasons for doubt.

    Args:
        answer: What was measured.
        confidence: Of the certificate.
        annealable: Whether gradients lead z to the posterior, so that annealed chains may be advised.
    """
    gap = interval(answer.trusted_elbo, answer.trusted)
    by_name = {one.name: one for one in [answer.elbo, *answer.evidence]}
    return {
        "n": len(answer.elbo.value),
        "evidence": {name: scored(one, answer.void.get(name)) for name, one in by_name.items()},
        **certified(answer.evidence, answer.trusted, confidence),
        "gap": bracketed(gap, by_name) | {"void": answer.void.get("elbo")},
        "curve": _curve(answer.trusted),
        "thermodynamic": {"beta": BETAS, "value": answer.thermodynamic.mean(1).tolist()},
        "void": list(dict.fromkeys(answer.void.values())),
        "warnings": [
            *_surpassed(gap, by_name),
            *warning_sentences(answer.trusted, annealable=annealable, closed=_closed(gap, by_name)),
        ],
    }


def _surpassed(gap: Interval, by_name: dict[str, LogEvidence]) -> list[str]:
    """A warning where weights of q without a variance end below a better lower bound by more than the noise of both."""
    own, best = by_name.get("importance"), by_name[gap.lower]
    if own is None or best.kind != "lower" or not heavy_tailed(own):
        return []
    below, noise = best.mean - own.mean, math.hypot(best.monte_carlo_error, own.monte_carlo_error)
    # false for NaN: where noise is not known nothing is said
    if not below > SURPASSED * noise:
        return []
    return [
        f"importance: {below:.2g} nats below {best.name}, {below / noise:.0f} Monte Carlo errors: quote {best.name}."
    ]


def _closed(gap: Interval, by_name: dict[str, LogEvidence]) -> bool:
    """Tell whether a bracket is narrower than the error of its ends over the data, and not crossed by noise."""
    # an upper bound of heavy-tailed weights may lie too low together with the lower one
    if gap.exact or gap.high is None or gap.upper is None or heavy_tailed(by_name[gap.upper]):
        return False
    width = (gap.high - gap.low).mean().item()
    # False for a single datum, whose error is NaN
    return 0 <= width <= by_name[gap.lower].standard_error


def scored(evidence: LogEvidence, void: str | None = None) -> dict[str, Any]:
    """One estimator: value, errors, kind, and the mean and median of each diagnostic; no value where it is void."""
    return {
        "value": math.nan if void else evidence.mean,
        "void": void,
        "standard_error": evidence.standard_error,
        "monte_carlo_error": evidence.monte_carlo_error,
        "kind": evidence.kind,
        "k": evidence.k,
        "diagnostics": {name: _summary(values) for name, values in evidence.diagnostics.items()},
        "doubts": [doubt.short for doubt in reliability_warnings(evidence)],
    }


def certified(
    asked: Sequence[LogEvidence], trusted: Sequence[LogEvidence], confidence: float
) -> dict[str, dict[str, Any] | None]:
    """The one certificate of all lower bounds together, and that of the upper ones; None where nothing is certified.

    A certificate for each estimator would invite the reader to take the best, at the price of one.

    Args:
        asked: Every estimator that was run.
        trusted: Those whose values stand; the others count as if they had found nothing.
        confidence: The probability with which each of the two holds.
    """
    certificates: dict[str, dict[str, Any] | None] = {}
    for kind, name in (("lower", "certificate"), ("upper", "upper_certificate")):
        several = [one for one in asked if one.unbiased and one.kind == kind]
        # by identity, for == of these would compare tensors
        kept = [one for one in several if any(one is other for other in trusted)]
        value = certificate(kept, confidence, len(several)) if kept else math.nan
        known = {"value": value, "confidence": confidence, "estimators": [one.name for one in kept]}
        certificates[name] = known if math.isfinite(value) else None
    return certificates


def bracketed(found: Interval, by_name: dict[str, LogEvidence]) -> dict[str, Any]:
    """The mean gap as an interval, each end with its errors."""

    def gap_variance(bound: str) -> Tensor:
        """Variance as of a difference of independent numbers, on the safe side where both are of the same draws."""
        own = by_name["elbo"].variance
        return torch.zeros_like(own) if bound == "elbo" else own + by_name[bound].variance

    return {
        "exact": found.exact,
        "lower": found.lower,
        "upper": found.upper,
        "low": mean_of(found.low, gap_variance(found.lower)),
        "high": None if found.high is None or found.upper is None else mean_of(found.high, gap_variance(found.upper)),
    }


def taken_apart(parts: GapDecomposition, answer: EvalResult) -> dict[str, Any]:
    """Approximation and amortisation gap of a split of the data; the first is an interval where log p(x) is."""
    gap = interval(parts.best, answer.trusted)
    noise = {one.name: one.variance for one in answer.trusted} | {"elbo": parts.best_variance}
    high = None
    if gap.high is not None and gap.upper is not None:
        high = mean_of(gap.high, parts.best_variance + noise[gap.upper])
    return {
        "n": len(parts.elbo),
        "void": answer.void.get("elbo"),
        "exact": gap.exact,
        "elbo": mean_of(parts.elbo, parts.elbo_variance),
        "best": mean_of(parts.best, parts.best_variance),
        "amortisation": mean_of(parts.amortisation, parts.amortisation_variance),
        "approximation": {
            "low": mean_of(gap.low, parts.best_variance + noise[gap.lower]),
            "high": high,
            "lower": gap.lower,
            "upper": gap.upper,
        },
        "settled": parts.settled.double().mean().item(),
        "apart": parts.apart.abs().mean().item(),
        "from_encoder": parts.from_encoder.double().mean().item(),
    }


def mean_of(values: PerDatum, variance: PerDatum) -> dict[str, float]:
    """Mean over the data, its standard error over them, and that of the noise at fixed data, NaN where unknown."""
    return {
        "value": values.mean().item(),
        "standard_error": standard_error(values).item(),
        "monte_carlo_error": variance.sum().sqrt().item() / len(values),
    }


def information_summary(information: Information, sizes: Sequence[int] = ()) -> dict[str, Any]:
    r"""The KL and its two parts, the KL by dimension from the largest on, and how many latent units are active.

    Where q is a chain of layers, the term of the KL and the active units of each as well, the first that x is made of.

    The mutual information of n data is at most log n, so within a nat of it ``at_least`` marks a value that more data
    might raise, at the cost of the marginal KL.

    Args:
        information: What was measured.
        sizes: Coordinates of each layer of z.
    """
    n, units = information.mean_z.shape
    mutual, marginal = (
        _without_spread(mean_of(values, variance))
        for values, variance in (
            (information.mutual, information.mutual_variance),
            (information.marginal, information.marginal_variance),
        )
    )
    by_dimension = information.by_dimension.mean(0)
    order = by_dimension.argsort(descending=True).tolist()
    active = _variance_of_means(information) > ACTIVE if units else by_dimension.new_zeros(0)
    return {
        "n": n,
        "kl": mean_of(information.kl, information.kl_variance),
        "mutual_information": {**mutual, "cap": math.log(n), "at_least": mutual["value"] > math.log(n) - 1},
        "marginal_kl": marginal,
        "kl_by_dimension": [{"dimension": i, "value": by_dimension[i].item()} for i in order] or None,
        "by_layer": _of_layers(information, active, sizes) or None,
        "units": units or None,
        "active_units": int(active.sum()) if units else None,
    }


def _of_layers(information: Information, active: Tensor, sizes: Sequence[int]) -> list[dict[str, Any]]:
    if not information.by_layer.shape[1]:
        return []
    terms, variances = information.by_layer.mT, information.by_layer_variance.mT
    return [
        {"layer": number, "kl": mean_of(*each), "units": len(part), "active_units": int(part.sum())}
        for number, (*each, part) in enumerate(zip(terms, variances, active.split(list(sizes)), strict=True), 1)
    ]


def _without_spread(score: dict[str, float]) -> dict[str, float]:
    """Data that share q(z) are no independent ones: what they differ by is no error of their mean."""
    return {name: value for name, value in score.items() if name != "standard_error"}


def _variance_of_means(information: Information) -> Tensor:
    """Var_x(E_q[z]) of each unit, less what the noise of E_q[z] adds to it."""
    return information.mean_z.var(0, correction=0) - information.noise_z.mean(0)


def plain(value: Any) -> Any:
    """For JSON, which has no NaN and no infinity: those become null."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(answer: EvalResult, parts: GapDecomposition | None) -> dict[str, Tensor]:
    """The per-datum table: every value, error and diagnostic, and the gap; NaN where something was not computed."""
    gap = interval(answer.trusted_elbo, answer.trusted)
    table = {}
    for one in [answer.elbo, *answer.evidence]:
        if one.name in answer.void:
            continue
        table[one.name] = one.value
        table[f"{one.name}_error"] = one.variance.sqrt()
        table |= {f"{one.name}_{name}": values for name, values in one.diagnostics.items()}
    table["gap_low"] = gap.low
    if gap.high is not None:
        table["gap_high"] = gap.high
    if parts is not None and "elbo" not in answer.void:
        # the gap is taken apart for the first data alone
        missing = torch.full((len(gap.low) - len(parts.elbo),), torch.nan, dtype=torch.float64)
        table["best_elbo"] = torch.cat([parts.best, missing])
        table["amortisation"] = torch.cat([parts.amortisation, missing])
        table["settled"] = torch.cat([parts.settled.double(), missing])
    return table


def _summary(values: Tensor) -> dict[str, float]:
    """Mean and median over the data it is known of, and their number."""
    known = values[~values.isnan()]
    if not len(known):
        return {"mean": math.nan, "median": math.nan, "n": 0}
    return {"mean": known.mean().item(), "median": known.median().item(), "n": len(known)}


def _curve(evidence: Sequence[LogEvidence]) -> dict[str, dict[str, list]]:
    """Block sizes of each estimator, the mean bound at each and its standard error over the data."""
    return {
        one.name: {
            "k": block_sizes(one.k),
            "value": one.curve.mean(1).tolist(),
            "standard_error": standard_error(one.curve).tolist(),
        }
        for one in evidence
        if one.curve is not None and one.k is not None
    }
