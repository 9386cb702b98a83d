"""Completion with a run: score the observed cells, fill the missing ones, and judge the completions."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from taut.completion.judged import Judged, by_mean, by_nearest, cell_errors
from taut.completion.loop import Truth, complete_data
from taut.config.instantiate import check_targets_resolved
from taut.errors import UserError
from taut.evidence.diagnostics import reliability_warnings
from taut.evidence.gap import interval
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalResult, EvalTask, refine, simulated
from taut.evidence.optimal_q import Family, Search
from taut.evidence.summary import assessed, mean_of
from taut.functional.missing import apply_mask, column_scale, observed
from taut.functional.proper_scores import ENSEMBLE, marginal_draws
from taut.functional.statistics import standard_error
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training import loggers
from taut.training.stored_run import Run

__all__ = ["complete"]

JUDGED = 256
"""Rows whose completions are scored at once, and on which floors and caps are looked for."""
MOST = 0.5
"""Effective sample size, as a share of the samples, above which advice on more of them would be beside the point."""


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
        if self.cfg.refine == "auto":
            saw_missing = self.run.cfg.get("mask") is not None
            return self.refinable and not saw_missing and self.input.observed_share < 1
        if self.cfg.refine and not self.refinable:
            raise UserError("refine=true improves an amortised q, which this run lacks; leave refine at auto.")
        return bool(self.cfg.refine)

    @property
    def refinable(self) -> bool:
        """True where gradients lead from the encoder's q of a datum to a better one."""
        return self.target.exact is None and not self.target.discrete and Family.of(self.model.q) is not None

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
            known = Truth(truth, self._unit()) if self._scored() else None
            completions, judged = complete_data(self.model.joint, task, self.cfg.draws, self.processes, stage, known)
        errors = self._errors(completions, judged) if judged is not None and self.processes.first else {}
        seconds = time.perf_counter() - started
        result = self._result(observed, complete, of_model, completions, errors, seconds)
        likelihood = self.model.joint.likelihood
        return CompleteOutput(self.cfg, self.run, result, self.input, completions, observed, self.data, likelihood)

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

    def _unit(self) -> Tensor:
        """Units of the cells: the standard deviation of the column, or the pixel itself where it is binary."""
        scale = column_scale(self.train)
        return torch.ones_like(scale) if self.model.joint.likelihood.binary else scale

    def _errors(self, completions: Completions, judged: Judged) -> dict[str, dict[str, Any]]:
        """Scores of the draws, of the marginal ones of the training rows, and of single completions."""
        x, truth = self.input.x, self.input.truth
        scale, binary = column_scale(self.train), self.model.joint.likelihood.binary
        rows, train = (values.flatten(1).double().numpy() for values in (x, self.train))
        fills: dict[str, Tensor] = {"mean": completions.mean, "most probable": completions.most_probable}
        for name, fill in (("mean imputation", by_mean), ("nearest neighbour", by_nearest)):
            fills[name] = torch.from_numpy(fill(train, rows)).view_as(x)
        marginal = marginal_draws(self.train, ENSEMBLE, self.cfg.seed).unsqueeze(1)
        several = {"draws": (completions.draws[0], judged)}
        several["draws of the column"] = marginal[0].expand_as(x), self._judged(marginal)
        found = {**several, **{name: (filled, self._judged(filled.unsqueeze(0))) for name, filled in fills.items()}}
        return {
            name: {**scores.scores(), **cell_errors(filled, truth, x, scale, binary=binary)}
            for name, (filled, scores) in found.items()
        }

    def _judged(self, draws: Tensor) -> Judged:
        """Draws, or one completion, held against the truth, some rows at a time."""
        parts = torch.arange(len(self.input.x)).split(JUDGED)
        unit = self._unit()
        own = len(draws[0]) > 1
        return Judged.cat(
            [
                Judged.of(draws[:, part] if own else draws, self.input.x[part], self.input.truth[part], unit)
                for part in parts
            ]
        )

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
            "filled": int(self.input.x.isnan().sum()),
            "cells_in_all": self.input.x.numel(),
            "k": cfg.k,
            "draws": cfg.draws,
            "refined": self.refined,
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "observed": assessed(observed, cfg.confidence, annealable=not self.target.discrete),
            "complete": None
            if complete is None
            else assessed(complete, cfg.confidence, annealable=not self.target.discrete),
            "simulated": None
            if of_model is None
            else assessed(of_model, cfg.confidence, annealable=not self.target.discrete),
            "missing_given_observed": None if complete is None else _difference(complete, observed),
            "errors": errors,
            "warnings": [*self.warnings(), *self._remedies(completions, observed)],
            "limits": self.model.limits(self.input.x[:JUDGED].to(self.processes.device)),
            "skipped": self.skipped,
            **self.about_measurement(self.input.x.dtype, seconds),
        }

    def _remedies(self, completions: Completions, observed: EvalResult) -> list[str]:
        """Advice where nothing is missing, or q is a poor proposal."""
        if self.input.observed_share == 1:
            return ["nothing is missing, so the completions are the data; choose a mask, e.g. mask=random."]
        poor = [one for one in observed.evidence if one.name == "importance" and reliability_warnings(one)]
        ess = completions.ess.nanmedian().item()
        # false for NaN; where most samples count, the doubts of log p(x_obs) say what there is to say
        if not poor or not ess < MOST * self.cfg.k:
            return []
        sees_mask = getattr(self.model.q, "sees_mask", False)
        whole = self.run.cfg.get("mask") is None
        blind = not (sees_mask or self.refined)
        why = "" if not blind else ": q has never seen holes" if whole else ": q is not told the mask"
        ways = ["refine=true (the best q for each datum)"] if self.refinable and not self.refined else []
        # q=masked is a Gaussian, and AIS moves z along gradients
        if not self.target.discrete:
            ways += [f"a run trained with q=masked{' mask=random mask.fresh=true' if whole else ''}"] if blind else []
            ways += ["evidence=[ais] for log p(x_obs)"]
        return [
            f"the effective sample size is {ess:.1f} of {self.cfg.k} samples (median over the data){why}. What helps: "
            f"{'; '.join(['a larger k', *ways])}."
        ]


def mask_name(cfg: DictConfig, run: Run) -> str:
    """The word of the mask, of the command or else of the run."""
    words = [loggers.mask_word(config) for config in ((cfg,) if is_choice(cfg.data) else (cfg, run.cfg))]
    return next((word for word in words if word != "none"), "from_data")


def _difference(complete: EvalResult, observed: EvalResult) -> dict[str, Any] | None:
    """Log p(x) - log p(x_obs) from both sides; None where log p of either is void.

    The lower end is the best lower bound of log p(x) less the best upper one of log p(x_obs), the upper end the other
    way round. ``value`` is the difference of two lower bounds, which has no side, by the estimator that brackets log
    p(x_obs) best from below; it lies between the ends but for the noise where both bounds are as tight.
    """
    whole, part = _Ends.of(complete), _Ends.of(observed)
    if whole is None or part is None or part.low.name in complete.void:
        return None
    known = {one.name: one for one in (complete.elbo, *complete.evidence)}
    value = known[part.low.name].value - part.low.value
    exact = whole.low.kind == part.low.kind == "exact"
    return {
        "estimator": part.low.name,
        "kind": "difference of two exact values" if exact else "difference of two lower bounds, itself no bound",
        "exact": exact,
        "value": value.mean().item(),
        "standard_error": standard_error(value).item() if len(value) > 1 else None,
        "low": _less(whole.low, part.high),
        "high": _less(whole.high, part.low),
    }


@dataclass(frozen=True)
class _Ends:
    """The best bounds of some data, which are one where log p is known; ``high`` is None where nothing bounds it."""

    low: LogEvidence
    high: LogEvidence | None

    @classmethod
    def of(cls, scores: EvalResult) -> "_Ends | None":
        """The ends that the interval of the gap has as well; None where the lower one is void."""
        found = interval(scores.trusted_elbo, scores.trusted)
        if found.lower in scores.void:
            return None
        known = {one.name: one for one in (scores.elbo, *scores.evidence)}
        return cls(known[found.lower], None if found.upper is None else known[found.upper])


def _less(one: LogEvidence | None, other: LogEvidence | None) -> dict[str, Any] | None:
    """One end less another, with its errors and the names of both."""
    if one is None or other is None:
        return None
    # the noise of the two is drawn for other data and so is independent
    return {**mean_of(one.value - other.value, one.variance + other.variance), "of": [one.name, other.name]}
