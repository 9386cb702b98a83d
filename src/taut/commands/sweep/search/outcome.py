"""What a search has found: ``search.json`` in its folder, which the table, the page and the figures are made from."""

import math
import shlex
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from taut.commands.sweep.plan import Plan
from taut.commands.sweep.search.scores import front
from taut.commands.sweep.search.search import Search
from taut.commands.sweep.search.study import JOB, WRONG
from taut.config.run_folder import SEARCH
from taut.files import write_json
from taut.report.read.search import SearchResult

STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def written(search: Search, plan: Plan, program: str) -> SearchResult:
    """Write ``search.json``, and return what it says.

    Args:
        search: The search.
        plan: The plan of its sweep.
        program: What a user types to train.
    """
    trials = [trial for trial in search.study.get_trials(deepcopy=False) if JOB in trial.user_attrs]
    values = {trial.user_attrs[JOB]: list(trial.values) for trial in trials if trial.state == TrialState.COMPLETE}
    best = front(values)
    commands = {job.folder: shlex.join([*program.split(), *_run(job.words)]) for job in plan.jobs if job.folder in best}
    content = {
        "scores": list(search.score.names),
        "labels": search.score.labels,
        "note": " ".join(filter(None, [search.score.why, search.end])),
        "axes": {key: _described(axis) for key, axis in search.space.axes.items()},
        "trials": [
            {
                "job": trial.user_attrs[JOB],
                "state": STATES.get(trial.state, "running"),
                "values": list(trial.values) if trial.state == TrialState.COMPLETE else None,
                "params": trial.params,
                "reason": trial.user_attrs.get(WRONG),
            }
            for trial in trials
        ],
        "importance": [importance(search.study, index) for index in range(len(search.score.names))],
        "best": commands,
    }
    write_json(search.folder / SEARCH, content)
    return SearchResult.of(content)


def importance(study: optuna.Study, index: int) -> dict[str, float]:
    """The share of the variance of a score that each axis explains by itself and with others, by fANOVA.

    Hutter, Hoos & Leyton-Brown (2014), as Optuna computes it from a random forest over the finished trials. Empty where
    they are too few, or all of one score.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found = {trial.values[index] for trial in finished}
    axes = {key for trial in finished for key, axis in trial.distributions.items() if not axis.single()}
    if len(found) < 4 or not all(map(math.isfinite, found)) or not axes:
        return {}
    return get_param_importances(
        study,
        evaluator=FanovaImportanceEvaluator(seed=0),
        params=sorted(axes),
        target=lambda trial: trial.values[index],
    )


def _run(words: list[str]) -> list[str]:
    """The words of a job that is to be a run of its own: a study asks for several runs."""
    return [*words, *(["hydra.mode=RUN"] if any(word.startswith("+sweep=") for word in words) else [])]


def _described(axis: Any) -> dict[str, Any]:
    if isinstance(axis, CategoricalDistribution):
        return {"choices": list(axis.choices)}
    assert isinstance(axis, IntDistribution | FloatDistribution)
    return {"low": axis.low, "high": axis.high, "log": axis.log}
