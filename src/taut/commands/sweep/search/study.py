r"""The study of a search: Optuna's journal in the folder of the sweep, what proposes trials, and what stops them.

Optuna's pruners compare numbers, and validation scores are means over some hundred rows: of two trainings that are
equally good, one is always behind. A trial is stopped only if its pruner says so, and if it is behind the best by more
than both errors explain.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from taut.errors import UserError
from taut.files import read_regular, write_atomically

JOURNAL = "study.log"
"""Optuna's record of a search, in its folder."""
NAME = "search"
LARGEST = 1_000_000_000
"""Bytes of a journal."""
ABOUT, JOB, WRONG, KIND = "taut", "job", "wrong", "kind"
"""Attributes: of the study, what it maximises over what; of a trial, its job, why it failed, the kind of its score."""
PICKLED = "cma:"
"""How the attributes begin in which Optuna's CMA-ES keeps its state."""
SET_ATTRIBUTE = 9
"""Optuna's number for the setting of such an attribute."""
STARTING = 8
"""Trials drawn at random before TPE or a Gaussian process proposes; Optuna's ten are many where a search is short."""
ERRORS = "standard_errors"
"""Attribute of a trial: the standard error of its score at every step, by the step."""
Z = 3.0
"""Standard errors by which a trial must be behind; two that are equal are farther apart in 0.3% of comparisons."""
BEFORE = 4
"""Trials that are never pruned, so that there is something to compare with."""


def opened(folder: Path, about: dict[str, Any], objectives: int) -> Study:
    """The study in the folder of a search, new if there is none. Only the driver of the sweep may ask.

    Args:
        folder: The folder of the sweep.
        about: What the trials have in common, which must not change.
        objectives: Number of scores, all of which are maximised.

    Raises:
        UserError: If there is one of another search, or that cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / JOURNAL
    lock = JournalFileOpenLock(str(path))
    # left behind by a driver that was killed; the sweep has no other, and Optuna would wait for half a minute
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists():
        _mend(path)
    storage = JournalStorage(JournalFileBackend(str(path), lock))
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            directions=[optuna.study.StudyDirection.MAXIMIZE] * objectives,
            load_if_exists=True,
        )
        known = study.user_attrs.get(ABOUT)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise _damaged(path) from error
    if known is None:
        study.set_user_attr(ABOUT, about)
    elif known != about:
        raise UserError(_changed(known, about, folder))
    return study


def _changed(known: dict[str, Any], about: dict[str, Any], folder: Path) -> str:
    name = next(name for name in about if known.get(name) != about[name])
    before, now = known.get(name), about[name]
    return (
        f"The search {folder.name} was begun with {name} {_without(now, before)}, not with {_without(before, now)}; go "
        "on with that, or start a new search with hydra.sweep.dir=<new folder>."
    )


def _without(others: Any, value: Any) -> str:
    """The part of a long list that another lacks; all of it if there is no such part."""
    if not isinstance(value, list) or not isinstance(others, list):
        return str(value)
    return " ".join(str(each) for each in value if each not in others) or " ".join(map(str, value))


def _mend(path: Path) -> None:
    """Take a last line that was cut short out of a journal, and what Optuna would unpickle.

    CMA-ES keeps its state as a pickle, and the folder may come from somebody else. A search that goes on starts CMA-ES
    anew.

    Raises:
        UserError: If it is not a journal.
    """
    text = read_regular(path, LARGEST)
    whole = text[: text.rfind(b"\n") + 1]
    try:
        kept = b"".join(line for line in whole.splitlines(keepends=True) if not _is_pickled(json.loads(line)))
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if kept != text:
        write_atomically(path, kept)


def _is_pickled(record: Any) -> bool:
    if not any(key.startswith(PICKLED) for key in _keys(record)):
        return False
    if record.get("op_code") != SET_ATTRIBUTE:
        raise ValueError("CMA-ES sets its attributes alone")
    return True


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(part)


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path} is damaged or of another version of Optuna; restore it, or start a new search with "
        "hydra.sweep.dir=<new folder>."
    )


def sampler(name: str, seed: int, study: Study, trials: int, together: int) -> BaseSampler:
    """The sampler that proposes the next trial.

    It is made anew for every trial, from the seed and the number of trials, so that a search that was stopped proposes
    what it would have proposed.

    Args:
        name: ``tpe``, ``gp``, ``cmaes``, ``random`` or ``grid``.
        seed: Seed of the search.
        study: The trials so far.
        trials: Trials of the whole search.
        together: How many run at a time.
    """
    number = len(study.get_trials(deepcopy=False))
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    starting = max(2, min(STARTING, trials // 4))
    if name == "tpe":
        # running trials count as bad ones: several at a time would else be proposed at the same place
        return TPESampler(n_startup_trials=starting, constant_liar=together > 1, seed=own)
    if name == "gp":
        with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
            return GPSampler(n_startup_trials=starting, deterministic_objective=True, seed=own)
    if name == "cmaes":
        # Optuna draws categories, which CMA-ES does not know, at random, and would warn of each
        return CmaEsSampler(warn_independent_sampling=False, seed=own)
    return RandomSampler(seed=own)


def unfinished(study: Study, axes: Any) -> list[FrozenTrial]:
    """Trials that were running when their driver ended; one that was not even proposed has failed."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        if trial.params.keys() != axes.keys():
            study.tell(trial.number, state=TrialState.FAIL)
    return [trial for trial in running if trial.params.keys() == axes.keys()]


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
