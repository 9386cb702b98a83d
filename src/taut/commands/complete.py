"""Completion with a run: score the observed cells, fill the missing ones, and judge the completions."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from taut.api.measurement import Measurement
from taut.commands.base import measure_run
from taut.commands.complete_input import complete_input, is_choice, refuse_output
from taut.commands.complete_output import CompleteOutput, output_name
from taut.completion import Completions
from taut.completion.accuracy import by_mean, by_nearest, cell_errors
from taut.completion.loop import complete_data
from taut.config.instantiate import check_targets_resolved
from taut.errors import UserError
from taut.evidence.diagnostics import reliability_warnings
from taut.evidence.gap import interval
from taut.evidence.loop import EvalResult, EvalTask, refine, simulated
from taut.evidence.optimal_q import Family, Search
from taut.evidence.summary import assessed
from taut.functional.missing import apply_mask, column_scale, observed
from taut.functional.statistics import standard_error
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training import loggers
from taut.training.stored_run import Run

__all__ = ["complete"]


def complete(cfg: DictConfig) -> dict[str, Any]:
    """Complete the data that ``cfg`` names and return what goes into ``result.json``.

    Raises:
        UserError: If the run, the mask, the table or the output file cannot be used.
    """
    if cfg.lecture:
        # imported here, since only the lecture needs scikit-learn's digits and their picture
        from taut.completion.lecture.run import give

        check_targets_resolved(cfg)
        return give(cfg)
    if cfg.out:
        refuse_output(Path(cfg.out).expanduser(), overwrite=cfg.overwrite)
    return measure_run(cfg, Completion, "data", lambda cfg, run, output: output)


class Completion(Measurement):
    """The stages of one completion.

    Args:
        cfg: The config of the command.
        run: The run.
        processes: The processes it is divided among.
    """

    def __init__(self, cfg: DictConfig, run: Run, processes: Processes) -> None:
        super().__init__(cfg, run, processes)
        self.train = self.data.starting_rows()  # before the mask of this command takes the place of the run's
        self.input = complete_input(cfg, self.data, self.model)
        self.choose_estimators()

    @property
    def output(self) -> str:
        return output_name(mask_name(self.cfg, self.run), self.input)

    @property
    def refined(self) -> bool:
        """True where q is improved for each datum.

        Raises:
            UserError: If ``refine=true`` meets a q that cannot be improved.
        """
        exact = self.target.exact is not None or self.target.discrete
        if self.cfg.refine == "auto":
            saw_missing = self.run.cfg.get("mask") is not None
            return not (exact or saw_missing or Family.of(self.model.q) is None) and self.input.observed_share < 1
        if self.cfg.refine and (exact or Family.of(self.model.q) is None):
            raise UserError("refine=true improves an amortised q, which this run lacks; leave refine at auto.")
        return bool(self.cfg.refine)

    def run_all(self) -> CompleteOutput:
        """Run every stage, one after another."""
        started = time.perf_counter()
        x, truth, split = self.input.x, self.input.truth, self.input.split
        with Stages(self.processes.first).running() as stages:
            task = self._task(x, f"holes/{split}", "refining q", stages)
            observed = self.measure(task, "p(x_obs)", stages)
            complete = None
            # under a model of the mask that is log p(x, nothing missing), and no numerator of p(x_mis | x_obs)
            if self._scored() and not (truth.isnan().any() or self.model.joint.likelihood.models_mask):
                complete = self.measure(self._task(truth, split, "refining q of x", stages), "p(x)", stages)
            of_model = self._simulated(stages) if any(estimator.simulated for estimator in self.estimators) else None
            stage = self.stage("completions", task, stages)
            completions = complete_data(self.model.joint, task, self.cfg.draws, self.processes, stage)
        errors = self._errors(completions) if self._scored() and self.processes.first else {}
        seconds = time.perf_counter() - started
        result = self._result(observed, complete, of_model, completions, errors, seconds)
        return CompleteOutput(self.cfg, self.run, result, self.input, completions, observed, self.data)

    def _task(self, x: Tensor, split: str, refining: str, stages: Stages) -> EvalTask:
        """Data to be scored, with the best q for each of them where that is wanted.

        Args:
            x: The data.
            split: The key of their noise: another word gives other numbers.
            refining: Name of the stage that improves q.
            stages: Where it is shown.
        """
        task = EvalTask(self.target, x, split, self.cfg.seed, self.cfg.k)
        family = Family.of(self.model.q)
        if not self.refined or family is None:
            return task
        proposal = refine(task, family, Search(), self.processes, self.stage(refining, task, stages))
        return replace(task, proposal=proposal)

    def _simulated(self, stages: Stages) -> EvalResult:
        """Data of the model behind the same masks: the z they came from is an exact draw of p(z given x_obs)."""
        z, x = simulated(self.target, len(self.input.x), self.cfg.seed, self.processes)
        # a model of the mask has made holes of its own, and of others that z would be no draw
        if not self.model.joint.likelihood.models_mask:
            x = apply_mask(x, observed(self.input.x))
        task = replace(self._task(x, "simulated", "refining q of simulated data", stages), z=z)
        return self.measure(task, "simulated", stages)

    def _scored(self) -> bool:
        """True where something is hidden whose truth is known."""
        return bool((self.input.x.isnan() & ~self.input.truth.isnan()).any())

    def _errors(self, completions: Completions) -> dict[str, dict[str, Any]]:
        x, truth = self.input.x, self.input.truth
        scale, binary = column_scale(self.train), self.model.joint.likelihood.binary
        rows, train = (values.flatten(1).double().numpy() for values in (x, self.train))
        fills: dict[str, Tensor] = {
            "mean": completions.mean,
            "most probable": completions.most_probable,
            "one draw": completions.draws[0],
        }
        for name, fill in (("mean imputation", by_mean), ("nearest neighbour", by_nearest)):
            fills[name] = torch.from_numpy(fill(train, rows)).view_as(x)
        return {name: cell_errors(filled, truth, x, scale, binary=binary) for name, filled in fills.items()}

    def _result(
        self,
        observed: EvalResult,
        complete: EvalResult | None,
        of_model: EvalResult | None,
        completions: Completions,
        errors: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        cfg = self.cfg
        return {
            **self.about_run(),
            "mask": mask_name(cfg, self.run),
            "split": self.input.split,
            "held_out": self.input.held_out and not self.other_data,
            "cells": self.model.joint.likelihood.scored_cells,
            "observed_share": self.input.observed_share,
            "k": cfg.k,
            "draws": cfg.draws,
            "refined": self.refined,
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "observed": assessed(observed, cfg.confidence),
            "complete": None if complete is None else assessed(complete, cfg.confidence),
            "simulated": None if of_model is None else assessed(of_model, cfg.confidence),
            "missing_given_observed": None if complete is None else _difference(complete, observed),
            "errors": errors,
            "warnings": [*self.warnings(), *self._remedies(completions, observed)],
            "skipped": self.skipped,
            **self.about_measurement(self.input.x.dtype, seconds),
        }

    def _remedies(self, completions: Completions, observed: EvalResult) -> list[str]:
        """Advice where nothing is missing, or q is a poor proposal."""
        if self.input.observed_share == 1:
            return ["nothing is missing, so the completions are the data; choose a mask, e.g. mask=random."]
        poor = [one for one in observed.evidence if one.name == "importance" and reliability_warnings(one)]
        if not poor or completions.ess.isnan().all():
            return []
        ess = completions.ess.median().item()
        sees_mask = getattr(self.model.q, "sees_mask", False)
        why = ": q has never seen holes" if self.run.cfg.get("mask") is None else ": q is not told the mask"
        ways = [] if self.refined else ["refine=true (the best q for each datum)"]
        ways += [] if sees_mask else ["a run trained with q=masked mask=random mask.fresh=true"]
        return [
            f"of {self.cfg.k} samples about {ess:.1f} count (median over the data){'' if sees_mask else why}. Better "
            f"proposals: {'; '.join([*ways, 'a larger k'])}; evidence=[ais] for log p(x_obs)."
        ]


def mask_name(cfg: DictConfig, run: Run) -> str:
    """The word of the mask, of the command or else of the run."""
    words = [loggers.mask_word(config) for config in ((cfg,) if is_choice(cfg.data) else (cfg, run.cfg))]
    return next((word for word in words if word != "none"), "from_data")


def _difference(complete: EvalResult, observed: EvalResult) -> dict[str, Any] | None:
    """Log p(x) - log p(x_obs), by the estimator that brackets log p(x_obs) best from below; None where it is void."""
    exact = [estimate.name for estimate in observed.trusted if estimate.kind == "exact"]
    name = exact[0] if exact else interval(observed.trusted_elbo, observed.trusted).lower
    if name in {**complete.void, **observed.void}:
        return None
    whole, part = (
        next(estimate for estimate in (scores.elbo, *scores.evidence) if estimate.name == name)
        for scores in (complete, observed)
    )
    values = whole.value - part.value
    return {
        "estimator": name,
        "kind": "difference of two exact values" if exact else "difference of two lower bounds, itself no bound",
        "value": values.mean().item(),
        "standard_error": standard_error(values).item() if len(values) > 1 else None,
    }
