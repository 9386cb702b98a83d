"""The contract of an estimator of log p(x)."""

from collections.abc import Iterable
from typing import get_args

import torch

from taut.errors import UserError
from taut.evidence.base import Evidence
from taut.evidence.log_evidence import LogEvidence
from taut.functional.consistency import Kind
from taut.testing.known import Known, gaussian_mixture, linear_gaussian
from taut.testing.rules import broken, reproducible, require, require_close, require_same

ERRORS = 6
"""Standard errors over the data by which a mean may be on the wrong side of the truth."""
BIAS = 0.1
"""Bias in nats that an estimate of no side may have beyond them, at the few samples it is tried with."""


def check_evidence(estimator: Evidence, known: Iterable[Known] | None = None) -> None:
    """Hold an estimator against its contract: what it calls exact, lower or upper is so.

    ``exact`` is log p(x) to 1e-9; the mean of ``lower`` is not above it, and that of ``upper`` not below, beyond their
    errors; an ``estimate`` is within its error and 0.1 nats. Values are float64, one for each datum, the same for the
    same seed, and others for another unless they are exact; a constant added to log p(x, z) is added to them.

    Args:
        estimator: An estimator with few samples, so that it is quick.
        known: Models whose log p(x) is known; by default one that is linear and Gaussian, and a mixture of Gaussians.
            Those that its ``check`` refuses are left out.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(
        isinstance(estimator, Evidence), "an estimator is a taut.evidence.Evidence", "one", type(estimator).__name__
    )
    with reproducible():
        models = [linear_gaussian(2, 4, 40, width=1.2), gaussian_mixture(40)] if known is None else list(known)
        fitting = [model for model in models if _accepts(estimator, model)]
        if not fitting:
            raise broken("check lets a model pass", "one of those that are known", "none")
        for model in fitting:
            _check_values(estimator, model, _values(estimator, model))
        _check_noise(estimator, fitting[0])


def _accepts(estimator: Evidence, model: Known) -> bool:
    try:
        estimator.check(model.target)
    except UserError:
        return False
    return True


def _values(estimator: Evidence, model: Known, seed: int = 0) -> LogEvidence:
    return estimator(model.target, model.x, seed=seed, z=model.z if estimator.simulated else None)


def _check_values(estimator: Evidence, model: Known, values: LogEvidence) -> None:
    require_same(values.name, estimator.name, "the name of the values is that of the estimator")
    require_same(values.kind, estimator.kind, "the kind of the values is that of the estimator")
    require(values.kind in get_args(Kind), "the kind", f"one of {', '.join(get_args(Kind))}", values.kind)
    require_same(values.value.dtype, torch.float64, "the type of the values")
    require_same(tuple(values.value.shape), tuple(model.log_px.shape), "the shape of the values")
    require_same(tuple(values.variance.shape), tuple(model.log_px.shape), "the shape of their variance")
    require(estimator.cost > 0, "the cost of a datum", "a number above 0", estimator.cost)
    excess = values.value - model.log_px
    mean, error = float(excess.mean()), float(excess.std() / len(excess) ** 0.5)
    got = f"{mean:.4g} +- {error:.2g} nats on average"
    if values.kind == "exact":
        require_close(values.value, model.log_px, "what is called exact is log p(x)", atol=1e-9)
    elif values.kind == "lower":
        require(mean <= ERRORS * error, "what is called a lower bound, less log p(x)", "0 at most", got)
    elif values.kind == "upper":
        require(mean >= -ERRORS * error, "what is called an upper bound, less log p(x)", "0 at least", got)
    else:
        require(abs(mean) <= ERRORS * error + BIAS, "what is called an estimate, less log p(x)", "about 0", got)


def _check_noise(estimator: Evidence, model: Known) -> None:
    first, again, other = (_values(estimator, model, seed).value for seed in (1, 1, 2))
    require(torch.equal(first, again), "an estimator repeats itself for the same seed", "equal values", "others")
    follows = estimator.kind == "exact" or not torch.equal(first, other)
    require(follows, "noise follows the seed", "other values for another seed", "the same")
    target = model.target
    shifted = type(target)(
        lambda x, z: target.log_joint(x, z) - 700.0, target.q, target.prior, simulate=target.simulate
    )
    values = _values(estimator, model._replace(target=shifted), 1).value
    require_close(values, first - 700.0, "a constant added to log p(x, z) is added to the values", atol=1e-7)
