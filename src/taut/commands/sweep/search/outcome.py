"""What a search has found: ``search.json``, which table, page and figures are made from, and a run of W&B."""

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
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

WANDB = "taut.training.loggers.wandb_logger"
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


def track(logger: DictConfig, result: SearchResult, folder: Path, pictures: Sequence[Path]) -> None:
    """Record a search where its jobs are recorded by W&B; where W&B fails, say so, for the search is complete.

    Args:
        logger: The choice of ``logger``.
        result: What the search has found.
        folder: Its folder.
        pictures: Its figures.
    """
    settings = _settings(OmegaConf.to_container(logger, resolve=True))
    if settings is None:
        return
    try:
        _record(settings, result, folder, pictures)
    except Exception as error:
        print(f"W&B has no record of the search: {error}", file=sys.stderr, flush=True)


def _record(settings: Mapping[str, Any], result: SearchResult, folder: Path, pictures: Sequence[Path]) -> None:
    # lightning, which takes seconds
    from taut.training.loggers import finish, wandb_logger

    # in the group of its jobs, which is named after the sweep
    about = {"folder": folder, "name": f"search {folder.name}", "group": folder.name, "config": {}}
    best = {f"best/{name}": max(values) for name, values in _columns(result).items()}
    for logger in wandb_logger(**about, **settings):
        for picture in pictures:
            logger.log_image(f"search/{picture.stem}", [str(picture)])  # pyright: ignore[reportAttributeAccessIssue]
        logger.experiment.summary.update(  # pyright: ignore[reportAttributeAccessIssue]
            {**best, "best/words": "\n".join(result.best.values()), "trials": len(result.trials)}
        )
    finish(0)


def _columns(result: SearchResult) -> dict[str, list[float]]:
    """All values of each score."""
    names = [label.partition("\n")[0] for label in result.labels]
    known = result.values.values()
    return {name: [values[place] for values in known] for place, name in enumerate(names) if known}


def _settings(logger: Any) -> dict[str, Any] | None:
    """The settings of W&B's logger, which may be one of several; None if it is none of them."""
    for node in [logger, *(logger.values() if isinstance(logger, dict) else ())]:
        if isinstance(node, dict) and node.get("_target_") == WANDB:
            return {key: value for key, value in node.items() if not key.startswith("_")}
    return None
