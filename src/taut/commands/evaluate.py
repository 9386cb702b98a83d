"""One evaluation: read a run, bracket log p(x), take the gap apart, write."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from taut.commands.base import fitting, refuse_others
from taut.commands.evaluate_output import Dossier, compare, publish
from taut.config.instantiate import check_targets_resolved
from taut.config.overrides import child_command
from taut.errors import UserError
from taut.evidence import Target
from taut.evidence.diagnostics import collapse
from taut.evidence.gap import GapDecomposition
from taut.evidence.information import Information
from taut.evidence.loop import EvalResult, EvalTask, decompose_gap, measure, measure_information, simulated
from taut.evidence.optimal_q import Family, Search
from taut.evidence.summary import assessed, information_summary, taken_apart
from taut.functional.consistency import Judge, Value
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training import loggers
from taut.training.build import set_up_torch
from taut.training.run import Run

__all__ = ["compare", "evaluate"]

BLIND = 0.5
"""Nats by which upper bounds may disagree on simulated data before the one made of q is doubted."""


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate the run that ``cfg`` names and return what goes into ``evaluation/result.json``.

    Raises:
        UserError: If the run cannot be read, or an estimator does not fit its model.
    """
    check_targets_resolved(cfg)
    refuse_others(cfg.evidence)
    run = Run.open(Path(cfg.run))
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"{run.folder} may not be written to, and evaluation/ goes there; copy the run folder first.")
    if cfg.threads:
        run.cfg.threads = cfg.threads
    set_up_torch(run.cfg, cfg.trainer)
    loggers.quiet()
    with Processes.launch(cfg.trainer, cfg.share, child_command(".")) as processes:
        dossier = Evaluation(cfg, run, processes).run_all()
        if processes.first:
            publish(dossier)
    return dossier.result


class Evaluation:
    """The stages of one evaluation.

    Args:
        cfg: What was asked.
        run: The run.
        processes: The processes it is divided among.
    """

    def __init__(self, cfg: DictConfig, run: Run, processes: Processes) -> None:
        self.cfg, self.run, self.processes = cfg, run, processes
        self.model, self.data, self.about = run.load()
        self.model.to(processes.device)
        self.target = Target.of(self.model.joint, self.model.q)
        self.search = Search(cfg.gap.steps, cfg.gap.samples, cfg.gap.lr)
        self.estimators, self.skipped = fitting(cfg.evidence, self.target, cfg.unfit)

    def run_all(self) -> Dossier:
        """Every stage, one after another."""
        started = time.perf_counter()
        answers, parts, made = {}, {}, None
        with Stages(self.processes.first).running() as stages:
            split = self.cfg.split
            answers[split] = self._measured(split, self.cfg.limit, stages)
            information = self._information(split, stages)
            answers[split] = _void_if_kl_is_negative(answers[split], information, split)
            if any(one.simulated for one in self.estimators):
                made = self._simulated(stages)
            for split in self.cfg.gap.splits if self.cfg.gap.apart else []:
                if split not in answers:
                    answers[split] = self._measured(split, self.cfg.gap.limit, stages)
                parts[split] = self._apart(split, len(answers[split].elbo.value), stages)
        seconds = time.perf_counter() - started
        return Dossier(
            self.cfg, self.run, self._result(answers, information, parts, made, seconds), answers, parts, self.data
        )

    def _measured(self, split: str, limit: int | None, stages: Stages) -> EvalResult:
        question = self._question(split, limit)
        estimators = [one for one in self.estimators if not one.simulated]
        return measure(question, estimators, self.processes, stages.stage(split, self._mine(question)))

    def _information(self, split: str, stages: Stages) -> Information:
        question = self._question(split, self.cfg.limit)
        return measure_information(question, self.processes, stages.stage("information", self._mine(question)))

    def _simulated(self, stages: Stages) -> EvalResult:
        z, x = simulated(self.target, self.cfg.simulated, self.cfg.seed, self.processes)
        question = EvalTask(self.target, x, "simulated", self.cfg.seed, self.cfg.k, z)
        return measure(question, self.estimators, self.processes, stages.stage("simulated", self._mine(question)))

    def _apart(self, split: str, measured: int, stages: Stages) -> GapDecomposition:
        question = self._question(split, min(measured, self.cfg.gap.limit or measured))
        family = Family.of(self.model.q)
        stage = stages.stage(f"gap, {split}", self._mine(question))
        return decompose_gap(question, family, self.search, self.processes, stage)

    def _question(self, split: str, limit: int | None) -> EvalTask:
        x = self.data.rows_of(split)[:limit]
        return EvalTask(self.target, x, noise_of(split), self.cfg.seed, self.cfg.k)

    def _mine(self, question: EvalTask) -> int:
        return len(self.processes.rows(len(question.x)))

    def _result(
        self,
        answers: dict[str, EvalResult],
        information: Information,
        parts: dict[str, GapDecomposition],
        made: EvalResult | None,
        seconds: float,
    ) -> dict[str, Any]:
        cfg, main = self.cfg, assessed(answers[self.cfg.split], self.cfg.confidence)
        apart = {split: taken_apart(part, _first(answers[split], len(part.elbo))) for split, part in parts.items()}
        unsettled = [
            f"gap, {split}: for {1 - one['settled']:.0%} of the data two starts led the search for the best q to "
            "different ELBOs; what it missed is booked as approximation gap: take more gap.steps."
            for split, one in apart.items()
            if one["settled"] < 0.95
        ]
        summary = information_summary(information)
        others = [one for split, answer in answers.items() if split != cfg.split for one in answer.void.values()]
        further = [None if made is None else _blind(made), self._collapsed(summary)]
        return {
            **self._about(seconds),
            **main,
            "warnings": [*(one for one in further if one), *main["warnings"]],
            "void": list(dict.fromkeys([*main["void"], *others])),
            "information": None if "elbo" in answers[cfg.split].void else summary,
            "k": cfg.k,
            "simulated": None if made is None else assessed(made, cfg.confidence),
            "apart": apart,
            "gap_warnings": unsettled,
            "limits": self.model.limits(self.data.rows_of(cfg.split)[: cfg.limit].to(self.processes.device)),
            "skipped": self.skipped,
        }

    def _collapsed(self, summary: dict[str, Any]) -> str | None:
        """Only an encoder can be said to have given up; a q without one was asked for as it is."""
        if Family.of(self.model.q) is None or self.target.discrete or summary["n"] == 1:
            return None
        return collapse(summary["active_units"], summary["units"], summary["kl"]["value"])

    def _about(self, seconds: float) -> dict[str, Any]:
        cfg, run = self.cfg, self.run
        return {
            "status": "finished",
            "name": run.name,
            "run": run.folder.name,
            **run.choices,
            "binarisation": run.binarisation,
            "mask": loggers.mask_word(run.cfg),
            "cells": "all" if self.data.mask is None else "observed",
            "split": cfg.split,
            "held_out": self.data.held_out and cfg.split != "train",
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "estimators": {name: settings(node) for name, node in cfg.evidence.items()},
            "checkpoint": self.about,
            "precision": str(next(iter(self.model.state_dict().values())).dtype).removeprefix("torch."),
            "data_digest": self.data.digest,
            "seconds": seconds,
        }


def _void_if_kl_is_negative(answer: EvalResult, information: Information, split: str) -> EvalResult:
    """The answer, of which what is made of q is void where the KL from the prior is below 0: q is then no density."""
    error = information.kl_variance.sum().sqrt().item() / len(information.kl)
    kl = Value("KL(q(z|x) || p(z))", "estimate", information.kl.mean().item(), error)
    sentence = Judge(len(information.kl)).negative(kl, f"{split} data")
    if sentence is None:
        return answer
    of_q = [one.name for one in answer.evidence if one.name not in ("exact", "naive", "uniform")]
    return replace(answer, void={**answer.void, **dict.fromkeys(["elbo", *of_q], sentence)})


def settings(node: DictConfig) -> dict[str, Any]:
    """What an estimator was told, without its class."""
    return {str(name): value for name, value in node.items() if name != "_target_"}


def noise_of(split: str) -> str:
    """What the noise of a split is keyed by: for the rows that weights were fitted to or chosen by, not what did so.

    The test rows decided nothing, and meet the noise of the table at the end of the run again.
    """
    return split if split == "test" else f"evaluate/{split}"


def _blind(made: EvalResult) -> str | None:
    """What to say where an upper bound made of q lies below those that do not rest on q, which shows a missed mode."""
    means = {one.name: one.mean for one in made.trusted}
    beyond = [means[name] for name in ("u_k", "bdmc") if name in means]
    if "struski" not in means or not beyond or not min(beyond) - means["struski"] > BLIND:
        return None
    return (
        f"struski: on simulated data it lies {min(beyond) - means['struski']:.3g} nats below the upper bounds that do "
        "not rest on q: q misses mass, and the upper end of the gap may be too low."
    )


def _first(answer: EvalResult, n: int) -> EvalResult:
    return answer.select(torch.arange(n)) if n < len(answer.elbo.value) else answer
