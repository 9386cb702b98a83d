"""One completion: read a run, hide or find holes, fill them, judge the result, write."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from taut.commands.base import fitting, refuse_others
from taut.commands.complete_input import incomplete, refuse_output
from taut.commands.complete_output import Completed, publish
from taut.completion import Completions
from taut.completion.accuracy import by_mean, by_nearest, cell_errors
from taut.completion.loop import complete_data
from taut.config.instantiate import check_targets_resolved
from taut.config.overrides import child_command
from taut.errors import UserError
from taut.evidence import Target
from taut.evidence.diagnostics import reliability_warnings
from taut.evidence.gap import interval
from taut.evidence.loop import EvalResult, EvalTask, measure, refine, simulated
from taut.evidence.optimal_q import Family, Search
from taut.evidence.summary import assessed
from taut.functional.missing import apply_mask, column_scale, observed
from taut.functional.statistics import standard_error
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training import loggers
from taut.training.build import set_up_torch
from taut.training.run import Run

__all__ = ["complete"]


def complete(cfg: DictConfig) -> dict[str, Any]:
    """Complete the data that ``cfg`` names and return what goes into ``result.json``.

    Raises:
        UserError: If the run, the mask, the table or the output file cannot be used.
    """
    check_targets_resolved(cfg)
    if cfg.lecture:
        from taut.completion.lecture.run import give

        return give(cfg)
    refuse_others(cfg.evidence)
    out = Path(cfg.out).expanduser() if cfg.out else None
    if out is not None:
        refuse_output(out, overwrite=cfg.overwrite)
    run = Run.open(Path(cfg.run))
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"{run.folder} may not be written to, and the completions go there; copy the run folder first.")
    if cfg.threads:
        run.cfg.threads = cfg.threads
    set_up_torch(run.cfg, cfg.trainer)
    loggers.quiet()
    with Processes.launch(cfg.trainer, "data", child_command(".")) as processes:
        completed = Completion(cfg, run, processes).run_all()
        if processes.first:
            publish(completed, out)
    return completed.result


class Completion:
    """The stages of one completion.

    Args:
        cfg: What was asked.
        run: The run.
        processes: The processes it is divided among.
    """

    def __init__(self, cfg: DictConfig, run: Run, processes: Processes) -> None:
        self.cfg, self.run, self.processes = cfg, run, processes
        self.model, self.data, self.about = run.load()
        self.train = self.data.training_rows()
        self.holes = incomplete(cfg, self.data, self.model)
        self.model.to(processes.device)
        self.target = Target.of(self.model.joint, self.model.q)
        self.estimators, self.skipped = fitting(cfg.evidence, self.target, cfg.unfit)

    @property
    def refined(self) -> bool:
        """Whether q is improved for each datum.

        Raises:
            UserError: If that is asked of a q that cannot be.
        """
        known = self.target.exact is not None or self.target.discrete
        if self.cfg.refine == "auto":
            learned = self.run.cfg.get("mask") is not None
            return not (known or learned or Family.of(self.model.q) is None) and self.holes.observed_share < 1
        if self.cfg.refine and (known or Family.of(self.model.q) is None):
            raise UserError("refine=true improves an amortised q, which this run has not; leave refine at auto.")
        return bool(self.cfg.refine)

    def run_all(self) -> Completed:
        """Every stage, one after another."""
        started = time.perf_counter()
        with Stages(self.processes.first).running() as stages:
            question = self._question(stages)
            observed = self._measured(question, "p(x_obs)", stages)
            complete = None
            if self._scored() and not self.holes.truth.isnan().any():
                atomic_folder = self._asked(self.holes.truth, self.holes.split, stages, "refining q of x")
                complete = self._measured(atomic_folder, "p(x)", stages)
            made = self._simulated(stages) if any(one.simulated for one in self.estimators) else None
            stage = stages.stage("completions", self._mine())
            found = complete_data(self.model.joint, question, self.cfg.draws, self.processes, stage)
        errors = self._errors(found) if self._scored() and self.processes.first else {}
        seconds = time.perf_counter() - started
        result = self._result(observed, complete, made, found, errors, seconds)
        return Completed(self.cfg, self.run, result, self.holes, found, observed, self.data)

    def _question(self, stages: Stages) -> EvalTask:
        holes = self.holes
        return self._asked(holes.x, f"holes/{holes.split}", stages, "refining q")

    def _asked(self, x: Tensor, split: str, stages: Stages, name: str) -> EvalTask:
        """A question about data, with the best q for each of them where that was asked for."""
        cfg = self.cfg
        question = EvalTask(self.target, x, split, cfg.seed, cfg.k)
        family = Family.of(self.model.q)
        if not self.refined or family is None:
            return question
        proposal = refine(question, family, Search(), self.processes, stages.stage(name, self._mine()))
        return EvalTask(self.target, x, split, cfg.seed, cfg.k, proposal=proposal)

    def _measured(self, question: EvalTask, name: str, stages: Stages) -> EvalResult:
        estimators = [one for one in self.estimators if question.z is not None or not one.simulated]
        return measure(question, estimators, self.processes, stages.stage(name, self._mine()))

    def _simulated(self, stages: Stages) -> EvalResult:
        """Data of the model behind the same masks: the z they came from is an exact draw of p(z given x_obs)."""
        z, x = simulated(self.target, len(self.holes.x), self.cfg.seed, self.processes)
        x = apply_mask(x, observed(self.holes.x))
        question = replace(self._asked(x, "simulated", stages, "refining q of simulated data"), z=z)
        return self._measured(question, "simulated", stages)

    def _mine(self) -> int:
        return len(self.processes.rows(len(self.holes.x)))

    def _scored(self) -> bool:
        """Whether something is hidden whose truth is known."""
        return bool((self.holes.x.isnan() & ~self.holes.truth.isnan()).any())

    def _errors(self, found: Completions) -> dict[str, dict[str, Any]]:
        x, truth = self.holes.x, self.holes.truth
        scale, binary = column_scale(self.train), self.model.joint.likelihood.binary
        rows, train = (values.flatten(1).double().numpy() for values in (x, self.train))
        answers: dict[str, Tensor] = {
            "mean": found.mean,
            "most probable": found.most_probable,
            "one draw": found.draws[0],
        }
        for name, fill in (("mean imputation", by_mean), ("nearest neighbour", by_nearest)):
            answers[name] = torch.from_numpy(fill(train, rows)).view_as(x)
        return {name: cell_errors(one, truth, x, scale, binary=binary) for name, one in answers.items()}

    def _result(
        self,
        observed: EvalResult,
        complete: EvalResult | None,
        made: EvalResult | None,
        found: Completions,
        errors: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, Any]:
        cfg, run, holes = self.cfg, self.run, self.holes
        return {
            "status": "finished",
            "name": run.name,
            "run": run.folder.name,
            **run.choices,
            "binarisation": run.binarisation,
            "mask": mask_name(cfg, run),
            "split": holes.split,
            "held_out": holes.held_out,
            "cells": "observed",
            "observed_share": holes.observed_share,
            "k": cfg.k,
            "draws": cfg.draws,
            "refined": self.refined,
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "observed": assessed(observed, cfg.confidence),
            "complete": None if complete is None else assessed(complete, cfg.confidence),
            "simulated": None if made is None else assessed(made, cfg.confidence),
            "missing_given_observed": None if complete is None else _difference(complete, observed),
            "errors": errors,
            "warnings": self._remedies(found, observed),
            "skipped": self.skipped,
            "checkpoint": self.about,
            "precision": str(holes.x.dtype).removeprefix("torch."),
            "data_digest": self.data.digest,
            "seconds": seconds,
        }

    def _remedies(self, found: Completions, observed: EvalResult) -> list[str]:
        """What to do where nothing is missing, or q is a poor proposal."""
        if self.holes.observed_share == 1:
            return ["nothing is missing, so the completions are the data; choose a mask, e.g. mask=random."]
        poor = [one for one in observed.evidence if one.name == "importance" and reliability_warnings(one)]
        if not poor or found.ess.isnan().all():
            return []
        ess = found.ess.median().item()
        seen = getattr(self.model.q, "sees_mask", False)
        why = (
            ""
            if seen
            else ": q has never seen holes"
            if self.run.cfg.get("mask") is None
            else ": q is not told the mask"
        )
        ways = [] if self.refined else ["refine=true (the best q for each datum)"]
        ways += [] if seen else ["a run trained with q=masked mask=random mask.fresh=true"]
        return [
            f"of {self.cfg.k} samples about {ess:.1f} count (median over the data){why}. Better proposals: "
            f"{'; '.join([*ways, 'a larger k'])}; evidence=[ais] for log p(x_obs)."
        ]


def mask_name(cfg: DictConfig, run: Run) -> str:
    """The word of the mask, of the command or else of the run."""
    words = [loggers.mask_word(one) for one in ((cfg,) if cfg.data else (cfg, run.cfg))]
    return next((word for word in words if word != "none"), "from_data")


def _difference(complete: EvalResult, observed: EvalResult) -> dict[str, Any] | None:
    """Log p(x) - log p(x_obs), by the estimator that brackets log p(x_obs) best from below; None where it is void."""
    exact = [one.name for one in observed.trusted if one.kind == "exact"]
    name = exact[0] if exact else interval(observed.trusted_elbo, observed.trusted).lower
    if name in {**complete.void, **observed.void}:
        return None
    every = ([answer.elbo, *answer.evidence] for answer in (complete, observed))
    atomic_folder, part = (next(one for one in some if one.name == name) for some in every)
    values = atomic_folder.value - part.value
    return {
        "estimator": name,
        "kind": "difference of two exact values" if exact else "difference of two lower bounds, itself no bound",
        "value": values.mean().item(),
        "standard_error": standard_error(values).item() if len(values) > 1 else None,
    }
