"""Evaluation of a run: bracket log p(x), and decompose the gap."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from omegaconf import DictConfig

from taut.api.measurement import Loaded, Measurement
from taut.errors import UserError
from taut.evidence import Evidence
from taut.evidence.diagnostics import collapse
from taut.evidence.gap import GapDecomposition
from taut.evidence.information import Information
from taut.evidence.loop import SIMULATED, EvalResult, EvalTask, decompose_gap, judged, measure_information, simulated
from taut.evidence.optimal_q import Family, Search
from taut.evidence.summary import assessed, information_summary, taken_apart
from taut.evidence.tolerance import Bracketed, Goal, bracket
from taut.functional.consistency import Judge, Value
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.training import loggers
from taut.training.metrics import bits_of
from taut.training.stored_run import Run

MAX_DISAGREEMENT = 0.5
"""Nats by which upper bounds may disagree on simulated data before the one made of q is doubted."""
ENOUGH_SETTLED = 0.95
"""Share of the data for which two searches for the best q must agree."""


class HasRows(Protocol):
    """Data that give the rows of a split."""

    def rows_of(self, split: Any) -> Any:
        """The rows, ``[n, *x]``."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Args:
        result: What goes into ``result.json``.
        measured: The scores of each datum, by split.
        gaps: The gap of each datum in its parts, by split.
        data: The data that were scored.
    """

    result: dict[str, Any]
    measured: dict[str, EvalResult]
    gaps: dict[str, GapDecomposition]
    data: HasRows


class Evaluation(Measurement):
    """The stages of one evaluation.

    Args:
        cfg: The config of the command.
        run: The run.
        processes: The processes it is divided among.
        loaded: The model, the data and the checkpoint of the run, where they have been read already.
    """

    def __init__(self, cfg: DictConfig, run: Run, processes: Processes, loaded: Loaded | None = None) -> None:
        super().__init__(cfg, run, processes, loaded)
        self.search = Search(cfg.gap.steps, cfg.gap.samples, cfg.gap.lr)
        self.goal = None if cfg.tolerance is None else Goal(cfg.tolerance, cfg.per_datum, cfg.confidence, cfg.budget)
        self.choose_estimators()
        self.apart = self._can_take_apart()

    @property
    def output(self) -> str:
        return self.cfg.out

    def run_all(self) -> Evaluated:
        """Run every stage, one after another."""
        started = time.perf_counter()
        measured, gaps, of_model, tolerance = {}, {}, None, None
        with Stages(self.processes.first and self.cfg.get("progress", True)).running() as stages:
            split = self.cfg.split
            measured[split] = self._measured(split, self.cfg.limit, stages)
            information = self._information(split, stages)
            if self.goal is not None:
                bracketed = self._bracketed(self.goal, stages)
                more = [*measured[split].evidence, bracketed.lower, bracketed.upper]
                measured[split] = judged(replace(measured[split], evidence=more), self._task(split, self.cfg.limit))
                tolerance = bracketed.summary(self.goal)
            measured[split] = void_if_kl_is_negative(measured[split], information, split)
            if any(estimator.simulated for estimator in self.estimators):
                of_model = self._simulated(len(measured[self.cfg.split].elbo.value), stages)
            for split in self.cfg.gap.splits if self.apart else []:
                if split not in measured:
                    measured[split] = self._measured(split, self.cfg.gap.limit, stages)
                gaps[split] = self._decomposed(split, len(measured[split].elbo.value), stages)
        result = self._result(measured, information, gaps, of_model, tolerance, time.perf_counter() - started)
        return Evaluated(result, measured, gaps, self.data)

    def _can_take_apart(self) -> bool:
        """Whether the gap is to be taken apart, and can be; what cannot is refused, or skipped as an estimator is."""
        if not self.cfg.gap.apart or not self.model.joint.prior.factored:
            return bool(self.cfg.gap.apart)
        why = (
            "gap.apart=true looks for the best q of each datum by gradients, which draws of a discrete z do not carry; "
            "set gap.apart=false."
        )
        if self.cfg.unfit == "refuse":
            raise UserError(why)
        self.skipped.append(why)
        return False

    def _measured(self, split: str, limit: int | None, stages: Stages) -> EvalResult:
        return self.measure(self._task(split, limit), split, stages)

    def _bracketed(self, goal: Goal, stages: Stages) -> Bracketed:
        task = self._task(self.cfg.split, self.cfg.limit)
        pilots, fresh = (self.stage(name, task, stages) for name in ("pilots", "draws to the tolerance"))
        return bracket(task, goal, self.processes, pilots, fresh)

    def _information(self, split: str, stages: Stages) -> Information:
        task = self._task(split, self.cfg.limit)
        return measure_information(task, self.processes, self.stage("information", task, stages))

    def _simulated(self, rows: int, stages: Stages) -> EvalResult:
        """Data of the model itself: the z they came from is an exact draw of p(z given x), as upper bounds need it."""
        n = self.cfg.simulated or min(SIMULATED, rows)
        z, x = simulated(self.target, n, self.cfg.seed, self.processes)
        return self.measure(EvalTask(self.target, x, "simulated", self.cfg.seed, self.cfg.k, z), "simulated", stages)

    def _decomposed(self, split: str, n: int, stages: Stages) -> GapDecomposition:
        task = self._task(split, min(n, self.cfg.gap.limit or n))
        stage = self.stage(f"gap, {split}", task, stages)
        return decompose_gap(task, Family.of(self.model.q), self.search, self.processes, stage)

    def _task(self, split: str, limit: int | None) -> EvalTask:
        x = self.data.rows_of(split)[:limit]
        return EvalTask(self.target, x, noise_of(split), self.cfg.seed, self.cfg.k)

    def _result(
        self,
        measured: dict[str, EvalResult],
        information: Information,
        gaps: dict[str, GapDecomposition],
        of_model: EvalResult | None,
        tolerance: dict[str, Any] | None,
        seconds: float,
    ) -> dict[str, Any]:
        cfg, main = (
            self.cfg,
            assessed(measured[self.cfg.split], self.cfg.confidence, annealable=not self.target.discrete),
        )
        apart = {split: taken_apart(gap, _first(measured[split], len(gap.elbo))) for split, gap in gaps.items()}
        summary = information_summary(information, self.model.joint.prior.layers)
        voids = [void for split, scores in measured.items() if split != cfg.split for void in scores.void.values()]
        doubt = None if of_model is None else doubt_of_struski(of_model)
        warnings = [*self.warnings(), doubt, self._collapsed(summary)]
        bits = bits_of(self.model.joint.likelihood, self.data)
        return {
            **self._about(seconds),
            **main,
            "warnings": [*(warning for warning in warnings if warning), *main["warnings"]],
            "void": list(dict.fromkeys([*main["void"], *voids])),
            "bits": None if bits is None else asdict(bits),
            "information": None if "elbo" in measured[cfg.split].void else summary,
            "k": cfg.k,
            "simulated": None
            if of_model is None
            else assessed(of_model, cfg.confidence, annealable=not self.target.discrete),
            "tolerance": tolerance,
            "apart": apart,
            "gap_warnings": [unsettled(split, gap) for split, gap in apart.items() if gap["settled"] < ENOUGH_SETTLED],
            "limits": self.model.limits(self.data.rows_of(cfg.split)[: cfg.limit].to(self.processes.device)),
            "skipped": self.skipped,
        }

    def _asked(self) -> dict[str, dict[str, Any]]:
        """The tolerance beside the settings of the estimators: values of another one stand in no column with these."""
        goal = self.goal
        return {} if goal is None else {"tolerance": {"nats": goal.tolerance, "per_datum": goal.per_datum}}

    def _collapsed(self, summary: dict[str, Any]) -> str | None:
        """A warning where an encoder has collapsed; a q without one is as asked for, and one datum tells nothing."""
        if Family.of(self.model.q) is None or self.target.discrete or summary["n"] == 1:
            return None
        return collapse(float(summary["active_units"]), summary["units"], summary["kl"]["value"])

    def _about(self, seconds: float) -> dict[str, Any]:
        cfg, precision = self.cfg, next(iter(self.model.state_dict().values())).dtype
        return {
            **self.about_run(),
            "mask": loggers.mask_word(self.run.cfg),
            "cells": "all" if self.data.mask is None else self.model.joint.likelihood.scored_cells,
            "split": cfg.split,
            "held_out": self.data.held_out and cfg.split != "train" and not self.other_data,
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "estimators": {name: settings(node) for name, node in cfg.evidence.items()} | self._asked(),
            **self.about_measurement(precision, seconds),
        }


def void_if_kl_is_negative(scores: EvalResult, information: Information, split: str) -> EvalResult:
    """The scores, void where they are made of q if the KL from the prior is below 0: q is then not a density."""
    error = information.kl_variance.sum().sqrt().item() / len(information.kl)
    kl = Value("KL(q(z|x) || p(z))", "estimate", information.kl.mean().item(), error)
    sentence = Judge(len(information.kl)).negative(kl, f"{split} data")
    if sentence is None:
        return scores
    of_q = [estimate.name for estimate in scores.evidence if estimate.name not in ("exact", "naive", "uniform")]
    return replace(scores, void={**scores.void, **dict.fromkeys(["elbo", *of_q], sentence)})


def settings(node: DictConfig | Evidence) -> dict[str, Any]:
    """The arguments of an estimator, without its class."""
    if isinstance(node, Evidence):
        return {name: value for name, value in vars(node).items() if isinstance(value, int | float | str)}
    return {str(name): value for name, value in node.items() if name != "_target_"}


def noise_of(split: str) -> str:
    """The key of the noise of a split: never that by which its rows fitted the weights or chose among them.

    The test rows decided nothing, and meet the noise of the table at the end of the run again.
    """
    return split if split == "test" else f"evaluate/{split}"


def doubt_of_struski(of_model: EvalResult) -> str | None:
    """A warning where an upper bound made of q lies below those that do not rest on q, which shows a missed mode."""
    means = {estimate.name: estimate.mean for estimate in of_model.trusted}
    others = [means[name] for name in ("u_k", "bdmc") if name in means]
    # negated, so that NaN raises no doubt
    if "struski" not in means or not others or not min(others) - means["struski"] > MAX_DISAGREEMENT:
        return None
    return (
        f"struski: on simulated data it lies {min(others) - means['struski']:.3g} nats below the upper bounds that do "
        "not rest on q: q misses mass, and the upper end of the gap may be too low."
    )


def unsettled(split: str, gap: dict[str, Any]) -> str:
    """The warning where the search for the best q has not settled."""
    return (
        f"gap, {split}: for {1 - gap['settled']:.0%} of the data two starts led the search for the best q to "
        "different ELBOs; what it missed is booked as approximation gap: take more gap.steps."
    )


def _first(scores: EvalResult, n: int) -> EvalResult:
    return scores.select(torch.arange(n)) if n < len(scores.elbo.value) else scores
