r"""Pruning that an error cannot cause.

Optuna's pruners compare numbers, and validation scores are means over some hundred rows: of two trainings that are
equally good, one is always behind. A trial is stopped only if its pruner says so, and if it is behind the best by more
than both errors explain.
"""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

ERRORS = "standard_errors"
"""Attribute of a trial: the standard error of its score at every step, by the step."""
Z = 3.0
"""Standard errors by which a trial must be behind; two that are equal are farther apart in 0.3% of comparisons."""
BEFORE = 4
"""Trials that are never pruned, so that there is something to compare with."""


class BeyondErrors(BasePruner):
    r"""Stops a trial that another pruner stops, if it is behind the best trial by more than their errors.

    With $s_t$ the score of the trial at its last step $t$, $s^*_t$ that of the best trial so far at the same step, and
    $e_t$, $e^*_t$ their standard errors over the validation rows, it stops where

    .. math:: s_t + z \sqrt{e_t^2 + e_t^{*2}} < s^*_t, \quad z = 3.

    The best trial so far is the finished one with the highest final score. All trials are scored on the same rows, with
    the same noise, so that errors of two trials are positively correlated, and the root is at least the standard error
    of the difference: the rule errs on the side of training on. Where an error or the best trial's score at that step
    is unknown, nothing is stopped.

    Args:
        pruner: One of Optuna's.
        z: How many standard errors.
    """

    def __init__(self, pruner: BasePruner, z: float = Z) -> None:
        self.pruner, self.z = pruner, z

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to stop a trial."""
        # asked first, whatever the errors say: some pruners count how often they are asked
        return self.pruner.prune(study, trial) and behind(study, trial, self.z) is not None


def behind(study: Study, trial: FrozenTrial, z: float = Z) -> str | None:
    """A sentence that says by how much a trial is behind the best one; None where that is within its error."""
    finished = [each for each in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if each.values]
    step = trial.last_step
    if not finished or step is None:
        return None
    best = max(finished, key=lambda each: each.values[0])
    own, theirs = trial.intermediate_values[step], best.intermediate_values.get(step)
    errors = [_error(each.user_attrs, step) for each in (trial, best)]
    if theirs is None or None in errors:
        return None
    error = math.hypot(*(each for each in errors if each is not None))
    # a score that is not finite is no reason: the training itself will say what is wrong
    if not own + z * error < theirs:
        return None
    return (
        f"{theirs - own:.3f} nats behind the best trial (number {best.number}) at epoch {step}, where {z:g} standard "
        f"errors are {z * error:.3f}"
    )


def pruner(name: str, epochs: int) -> BasePruner:
    """The pruner of a search.

    Args:
        name: ``median``, ``hyperband``, ``asha`` or ``none``.
        epochs: Epochs of a training that is not stopped.
    """
    if name == "median":
        # a tenth of a training: the first epochs tell little of the last
        return BeyondErrors(MedianPruner(n_startup_trials=BEFORE, n_warmup_steps=epochs // 10))
    if name == "hyperband":
        return BeyondErrors(HyperbandPruner(min_resource=max(1, epochs // 27), max_resource=epochs))
    if name == "asha":
        return BeyondErrors(SuccessiveHalvingPruner(min_resource=max(1, epochs // 27), reduction_factor=3))
    return NopPruner()


def note(trial: optuna.Trial, step: int, score: float, error: float | None) -> None:
    """Tell Optuna of a score on the way."""
    if error is not None:
        trial.set_user_attr(ERRORS, {**trial.user_attrs.get(ERRORS, {}), str(step): error})
    trial.report(score, step)


def _error(attributes: Mapping[str, Any], step: int) -> float | None:
    return attributes.get(ERRORS, {}).get(str(step))
