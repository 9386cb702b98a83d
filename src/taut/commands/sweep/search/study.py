"""The study of a search: Optuna's journal in the folder of the sweep, and the samplers that propose from it."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
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


def opened(folder: Path, about: dict[str, Any], objectives: int) -> optuna.Study:
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
    return (
        f"The search {folder.name} was begun with {name} {_shown(known.get(name))}, not with {_shown(about[name])}; go "
        "on with that, or start a new search with hydra.sweep.dir=<new folder>."
    )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def sampler(name: str, seed: int, study: optuna.Study, trials: int, together: int) -> BaseSampler:
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


def unfinished(study: optuna.Study, axes: Any) -> list[FrozenTrial]:
    """Trials that were running when their driver ended; one that was not even proposed has failed."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        if trial.params.keys() != axes.keys():
            study.tell(trial.number, state=TrialState.FAIL)
    return [trial for trial in running if trial.params.keys() == axes.keys()]
