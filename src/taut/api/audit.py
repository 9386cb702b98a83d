"""``taut.audit``: log p(x) of a model that taut did not train, bracketed from both sides."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.adapters.base import Adapter, Functions
from taut.adapters.plain import Output, Plain
from taut.adapters.recognise import adapter_of
from taut.api.evaluate import EvaluationReport, shared_settings
from taut.api.evaluation import (
    ENOUGH_SETTLED,
    Evaluated,
    doubt_of_struski,
    settings,
    unsettled,
    void_if_kl_is_negative,
)
from taut.api.measurement import fitting
from taut.errors import UserError
from taut.evidence import Evidence
from taut.evidence.gap import GapDecomposition
from taut.evidence.loop import SIMULATED, EvalResult, EvalTask, decompose_gap, measure, measure_information, simulated
from taut.evidence.optimal_q import Search
from taut.evidence.reported import compared
from taut.evidence.summary import assessed, information_summary, taken_apart
from taut.functional.arrays import Array, matrix, whole
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.runtime.untouched import untouched

DEFAULT = ("importance", "jackknife", "struski", "u_k")
NOISE = "audit"
"""What the noise is keyed by beside the row: the data were seen by another program, and by no noise of ours."""


@dataclass(frozen=True)
class Given:
    """Rows that were handed over, as the data of an evaluation."""

    rows: Tensor

    def rows_of(self, split: str) -> Tensor:
        """The rows, whatever the split is called."""
        del split
        return self.rows


class Audit:
    """The stages of one audit.

    Args:
        cfg: ``k``, ``seed``, ``simulated``, ``confidence``, ``unfit``, ``evidence`` and ``gap``, as in the config of
            ``evaluate.py``, ``reported``, and ``progress`` where no bars are wanted.
        adapter: The model.
        x: The data.
        about: What of the result says which data these are: at least ``split``.

    Raises:
        UserError: If model and data do not go together, or an estimator does not fit.
    """

    def __init__(self, cfg: DictConfig, adapter: Adapter, x: Tensor, about: Mapping[str, Any]) -> None:
        self.cfg, self.adapter, self.about = cfg, adapter, about
        self.device = _device(adapter)
        self.x, self.processes = x, Processes(device=self.device)
        self.subject = adapter.subject(x.to(self.device))
        self.estimators, self.skipped = fitting(cfg.evidence, self.subject.target, cfg.unfit)
        self.search = Search(cfg.gap.steps, cfg.gap.samples, cfg.gap.lr)
        if cfg.gap.apart and self.subject.family is None and not self.subject.target.discrete:
            raise UserError(
                "gap.apart=true looks for the best q of each datum by its parameters, and those of a Gaussian q alone "
                "are known, diagonal or full; set gap.apart=false, gap_apart=False in Python."
            )

    def run_all(self) -> Evaluated:
        """Run every stage, one after another."""
        started, split, target = time.perf_counter(), self.about["split"], self.subject.target
        with Stages(self.cfg.get("progress", True)).running() as stages:
            task = EvalTask(target, self.x, NOISE, self.cfg.seed, self.cfg.k)
            scores = self._measured(task, split, stages)
            information = None
            if target.prior is not None:
                found = measure_information(task, self.processes, stages.stage("information", len(self.x)))
                information = information_summary(found)
                scores = void_if_kl_is_negative(scores, found, split)
            of_model = self._simulated(stages)
            gaps = self._decomposed(stages) if self.cfg.gap.apart else {}
        result = self._result(scores, information, of_model, gaps, time.perf_counter() - started)
        return Evaluated(result, {split: scores}, gaps, Given(self.x))

    def _measured(self, task: EvalTask, name: str, stages: Stages) -> EvalResult:
        estimators = [estimator for estimator in self.estimators if task.z is not None or not estimator.simulated]
        return measure(task, estimators, self.processes, stages.stage(name, len(task.x)))

    def _simulated(self, stages: Stages) -> EvalResult | None:
        if not any(estimator.simulated for estimator in self.estimators):
            return None
        n = self.cfg.simulated or min(SIMULATED, len(self.x))
        z, x = simulated(self.subject.target, n, self.cfg.seed, self.processes)
        task = EvalTask(self.subject.target, x, "simulated", self.cfg.seed, self.cfg.k, z)
        return self._measured(task, "simulated", stages)

    def _decomposed(self, stages: Stages) -> dict[str, GapDecomposition]:
        first = self.x[: self.cfg.gap.limit]
        task = EvalTask(self.subject.target, first, NOISE, self.cfg.seed, self.cfg.k)
        stage = stages.stage("gap", len(first))
        parts = decompose_gap(task, self.subject.family, self.search, self.processes, stage)
        return {self.about["split"]: parts}

    def _result(
        self,
        scores: EvalResult,
        information: dict[str, Any] | None,
        of_model: EvalResult | None,
        gaps: Mapping[str, GapDecomposition],
        seconds: float,
    ) -> dict[str, Any]:
        cfg, main = self.cfg, assessed(scores, self.cfg.confidence, annealable=not self.subject.target.discrete)
        apart = {split: taken_apart(gap, scores.select(torch.arange(len(gap.elbo)))) for split, gap in gaps.items()}
        doubt = None if of_model is None else doubt_of_struski(of_model)
        return {
            "status": "finished",
            "name": f"audit of {self.adapter.name}",
            **self.about,
            "seed": cfg.seed,
            "confidence": cfg.confidence,
            "estimators": {name: settings(node) for name, node in cfg.evidence.items()},
            "precision": str(self.subject.target.precision or self.x.dtype).removeprefix("torch."),
            "seconds": seconds,
            **main,
            "reported": self._reported(scores),
            "warnings": [*([doubt] if doubt else []), *main["warnings"]],
            "bits": None,
            "information": None if "elbo" in scores.void else information,
            "k": cfg.k,
            "simulated": None
            if of_model is None
            else assessed(of_model, cfg.confidence, annealable=not self.subject.target.discrete),
            "apart": apart,
            "gap_warnings": [unsettled(split, gap) for split, gap in apart.items() if gap["settled"] < ENOUGH_SETTLED],
            "limits": [],
            "skipped": self.skipped,
        }

    def _reported(self, scores: EvalResult) -> dict[str, Any] | None:
        value = self.cfg.reported
        if value is None:
            return None
        return {"value": value, "words": compared(float(value), scores, mass=self.subject.target.mass)}


def audit(
    model: Any = None,
    *,
    data: Array = None,
    prior: Any = None,
    likelihood: str | Callable[[Tensor], Distribution] | None = None,
    q: Any = None,
    decoder: Callable[[Tensor], Any] | None = None,
    output: Output = "logits",
    scale: float | Tensor | None = None,
    log_joint: Callable[[Tensor, Tensor], Tensor] | None = None,
    simulate: Callable[[int], tuple[Tensor, Tensor]] | None = None,
    reported: float | None = None,
    evidence: Sequence[str | Evidence] | None = None,
    limit: int | None = 1000,
    k: int = 1000,
    seed: int = 0,
    gap_apart: bool = False,
    simulated: int | None = None,
    confidence: float = 0.95,
    progress: bool = False,
) -> EvaluationReport:
    r"""Bracket $\log p(x)$ of a model that knows nothing of taut, and measure the gap of its q; nothing is written.

    The model is one of three: an object that an adapter knows; its parts, ``prior``, ``likelihood`` and ``q``; or
    ``log_joint``, ``q`` and, for bounds on simulated data, ``simulate``.

    Args:
        model: A model of pythae, scvi-tools or scikit-learn, an adapter (:mod:`taut.adapters`), or any object with
            ``log_joint(x, z)`` and ``q(x)``.
        data: The data, one row for each datum; left out where the model brings its own.
        prior: The distribution of z, or what gives it when it is called; a standard normal one by default.
        likelihood: From z ``[n, d]`` to the distribution of x; or ``bernoulli`` or ``gaussian``, of the ``decoder``.
        q: From x ``[b, *x]`` to a distribution with batch ``(b,)``, or to mean and log-variance of a Gaussian; a flow
            of zuko's; or an object with ``sample(x, k)`` and ``log_prob(x, z)``.
        decoder: From z ``[n, d]`` to logits or means of x.
        output: What the decoder of ``bernoulli`` gives: ``logits`` or ``means``.
        scale: Standard deviation of x under ``gaussian``, where the decoder gives means alone.
        log_joint: $\log p(x, z)$ in nats, from x ``[b, *x]`` and z ``[k, b, *z]`` to ``[k, b]``.
        simulate: n pairs (z, x) drawn from the model of ``log_joint``.
        reported: Mean log p(x) in nats per datum as another program has it, which is compared with the bracket.
        evidence: Estimators, by name or as objects of :mod:`taut.evidence`; by default importance sampling, jackknife,
            an upper bound and, where the model can be sampled, one on simulated data.
        limit: Take the first so many rows; ``None`` for all.
        k: Number of samples K of the ELBO, and of the estimators that are given by name and take one.
        seed: Seed of the noise.
        gap_apart: Take the gap apart into approximation and amortisation gap, for a Gaussian q; it takes minutes.
        simulated: Data simulated from the model, for the estimators that need them; ``None`` for as many as rows, at
            most 100.
        confidence: Of the certificates.
        progress: Show bars.

    Raises:
        UserError: If an argument is out of range, or model, q and data do not go together.
        RunError: If a value is not a number.
    """
    adapter = _adapter(model, prior, likelihood, q, decoder, output, scale, log_joint, simulate)
    chosen = DEFAULT if evidence is None else evidence
    cfg: dict[str, Any] = {
        **shared_settings(chosen, k, seed, gap_apart, simulated, confidence, progress),
        "reported": reported,
        # the user's own choice is not left out without a word
        "unfit": "skip" if evidence is None else "refuse",
    }
    x = rows_of(adapter, data)[: None if limit is None else whole("limit", limit)]
    with untouched(), evaluating(adapter.modules):
        found = Audit(DictConfig(cfg, flags={"allow_objects": True}), adapter, x, {"split": "data"}).run_all()
    return EvaluationReport(found, "data")


def rows_of(adapter: Adapter, data: Array) -> Tensor:
    """The data to score: those given, or those that the model brings along; in single precision if that loses nothing.

    Raises:
        UserError: If there are none, or they are no rows of numbers.
    """
    if data is None and adapter.data is None:
        raise UserError(f"{adapter.name} brings no data along; give data=x, one row for each datum.")
    x = matrix(adapter.data if data is None else data, name="data")
    # a tensor of the caller's says itself in which precision its model takes it
    if isinstance(data, Tensor) or data is None or x.dtype == torch.float32:
        return x
    return x.float() if torch.equal(x.float().double(), x) else x


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Generator[None]:
    """Put modules and all their parts into evaluation mode for the length of a block."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _device(adapter: Adapter) -> torch.device:
    parameters = (parameter for module in adapter.modules for parameter in module.parameters())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _adapter(
    model: Any,
    prior: Any,
    likelihood: Any,
    q: Any,
    decoder: Any,
    output: Literal["logits", "means"],
    scale: Any,
    log_joint: Any,
    simulate: Any,
) -> Adapter:
    """The adapter of the model that the arguments say, one of three ways."""
    parts = {"prior": prior, "likelihood": likelihood, "q": q, "log_joint": log_joint, "simulate": simulate}
    given = [name for name, part in (parts | {"decoder": decoder}).items() if part is not None]
    if model is not None:
        if given:
            raise UserError(f"model= is a whole model, and {given[0]}= a part of one; give one of the two.")
        return adapter_of(model)
    if q is None or (likelihood is None) == (log_joint is None):
        raise UserError(
            "Give a model, or likelihood= and q= (and a prior= that is not standard normal), or log_joint= and q= (and "
            "simulate=, for bounds on simulated data); got "
            f"{', '.join(f'{name}=' for name in given) or 'none of them'}."
        )
    if log_joint is not None:
        if decoder is not None:
            raise UserError("log_joint= says all of the model, and decoder= a part of one; give one of the two.")
        return Functions(log_joint, q, simulate, prior)
    if simulate is not None:
        raise UserError("simulate= goes with log_joint=; prior= and likelihood= are drawn from as they are.")
    return Plain(q=q, likelihood=likelihood, decoder=decoder, prior=prior, output=output, scale=scale)
