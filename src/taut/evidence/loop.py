"""Running estimators over data, batch by batch, on one process or several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taut.errors import RunError
from taut.evidence.base import Evidence
from taut.evidence.contradictions import impossible
from taut.evidence.gap import GapDecomposition, decompose, thermodynamic_curve
from taut.evidence.importance import elbo
from taut.evidence.information import MAX_DATA, Information, information_of
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.optimal_q import Family, Search
from taut.evidence.rows import MOST_WEIGHTS, Rows
from taut.evidence.target import Target
from taut.functional import seeding
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import Proposal
from taut.functional.types import PerDatum
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage

T = TypeVar("T")

BETAS = [i / 20 for i in range(21)]
MOST_DATA = 128
"""Data of a batch."""


@dataclass(frozen=True)
class EvalTask:
    """Data, model and settings of a measurement.

    Args:
        target: The model and its proposal.
        x: Data, shape ``[n, *x_shape]``.
        split: Name of the split, part of what the noise is keyed by.
        seed: Seed of the noise.
        k: Number of samples of the ELBO and of the thermodynamic curve.
        z: For data simulated from the model, the z they came from.
        proposal: From the rows of some data to where their z are drawn from, instead of the target's q.
    """

    target: Target
    x: Float[Tensor, "n *x"]
    split: str
    seed: int
    k: int
    z: Float[Tensor, "n *z"] | None = None
    proposal: Callable[[Int[Tensor, " b"]], Proposal] | None = None

    def rows(self, index: Int[Tensor, " b"], processes: Processes) -> Rows:
        """Some of the data, on the device of the process."""
        z = None if self.z is None else self.z[index].to(processes.device)
        return Rows(
            self.target,
            self.x[index].to(processes.device),
            index.to(processes.device),
            seed=self.seed,
            split=self.split,
            z=z,
            share=processes.share,
            proposal=None if self.proposal is None else self.proposal(index),
        )


@dataclass(frozen=True)
class EvalResult:
    """Measured values of each datum, in the order of the rows.

    Args:
        elbo: The ELBO of q.
        evidence: What each estimator says of log p(x).
        thermodynamic: The thermodynamic curve at ``BETAS``, ``[21, n]``.
        void: From the names of those that say what cannot be to the reason.
    """

    elbo: LogEvidence
    evidence: list[LogEvidence]
    thermodynamic: Float[Tensor, "betas n"]
    void: Mapping[str, str] = field(default_factory=dict)

    @property
    def trusted(self) -> list[LogEvidence]:
        """The estimators whose values stand."""
        return [one for one in self.evidence if one.name not in self.void]

    @property
    def trusted_elbo(self) -> PerDatum:
        """The ELBO of each datum; NaN where it is void."""
        return torch.full_like(self.elbo.value, torch.nan) if self.elbo.name in self.void else self.elbo.value

    def select(self, order: Int[Tensor, " n"]) -> "EvalResult":
        """The data in another order."""
        evidence = [one.select(order) for one in self.evidence]
        return EvalResult(self.elbo.select(order), evidence, self.thermodynamic[:, order], self.void)

    @staticmethod
    def cat(parts: Sequence["EvalResult"]) -> "EvalResult":
        """Append the values measured of further data."""
        evidence = [LogEvidence.cat(one) for one in zip(*(part.evidence for part in parts), strict=True)]
        curves = torch.cat([part.thermodynamic for part in parts], 1)
        return EvalResult(LogEvidence.cat([part.elbo for part in parts]), evidence, curves)


def measure(question: EvalTask, estimators: Sequence[Evidence], processes: Processes, stage: Stage) -> EvalResult:
    """Put the data before every estimator; those that share samples draw them once.

    Raises:
        RunError: If a value is NaN, a lower bound +inf or the ELBO not finite, naming the datum.
    """
    mine = processes.rows(len(question.x))
    clock = Clock(stage, len(mine), [one.cost for one in estimators])
    batches = batches_of(mine, question.k, estimators)
    parts = [_batch(question.rows(index, processes), estimators, question.k, clock) for index in batches]
    # a process without data takes part, too: the others would wait for it for ever
    return judged(
        in_order(processes.gathered((mine, EvalResult.cat(parts) if parts else None)), EvalResult.cat), question
    )


def judged(answer: EvalResult, question: EvalTask) -> EvalResult:
    """What was measured, with what is void among it."""
    where = f"{question.split.rpartition('/')[2]} data"
    return replace(answer, void=impossible([answer.elbo, *answer.evidence], mass=question.target.mass, where=where))


SIMULATED = 100
"""Most data that are simulated where nobody says how many: as many as rows are measured, for they cost as much each."""


def simulated(target: Target, n: int, seed: int, processes: Processes) -> tuple[Tensor, Tensor]:
    """Draw n pairs (z, x) from the model, the same whatever else was measured."""
    assert target.simulate is not None
    with seeding.forked(processes.device), exact_arithmetic(processes.device):
        seeding.seed(seeding.key(seed, "draw of the simulated data", 0), processes.device)
        z, x = target.simulate(n)
    return z.cpu(), x.cpu()


def decompose_gap(
    question: EvalTask, family: Family | None, search: Search, processes: Processes, stage: Stage
) -> GapDecomposition:
    """The gap of each datum in its two parts."""
    mine = processes.rows(len(question.x))
    clock = Clock(stage, len(mine), [1.0])
    parts = []
    for index in batches_of(mine, question.k):
        rows = question.rows(index, processes)
        rows.tick = clock.ticker(len(index), 0)
        parts.append(decompose(rows, family, search, question.k).cpu())
        clock.finished(len(index))
    return in_order(processes.gathered((mine, GapDecomposition.cat(parts) if parts else None)), GapDecomposition.cat)


def measure_information(question: EvalTask, processes: Processes, stage: Stage) -> Information:
    """Information of z about the first 1,000 data: each process needs the q of all of them, and scores its own."""
    x = question.x[:MAX_DATA].to(processes.device)
    mine = processes.rows(len(x))
    clock = Clock(stage, len(mine), [1.0])
    parts = []
    with exact_arithmetic(x.device):
        every = question.target.q(x)
        for index in batches_of(mine, question.k):
            parts.append(information_of(question.rows(index, processes), every).cpu())
            clock.finished(len(index))
    return in_order(processes.gathered((mine, Information.cat(parts) if parts else None)), Information.cat)


def refine(
    question: EvalTask, family: Family, search: Search, processes: Processes, stage: Stage
) -> Callable[[Int[Tensor, " b"]], Proposal]:
    """The best member of q's family for each datum, by local optimisation: a proposal for :class:`EvalTask`.

    Args:
        question: The data.
        family: The family of q and its encoder.
        search: How to search.
        processes: The processes that share the data.
        stage: Where progress is shown.
    """
    mine = processes.rows(len(question.x))
    clock = Clock(stage, len(mine), [1.0])
    table: Tensor | None = None
    # to split nothing gives one part without data
    for index in mine.split(MOST_DATA) if len(mine) else ():
        rows = question.rows(index, processes)
        rows.tick = clock.ticker(len(index), 0)
        with exact_arithmetic(rows.x.device):
            best = search.run(rows, family, family.parameters(rows.x), "local/encoder")
        table = best.new_zeros(len(question.x), best.shape[1]) if table is None else table
        table[index.to(best.device)] = best
        clock.finished(len(index))

    def proposal(index: Int[Tensor, " b"]) -> Proposal:
        assert table is not None, "asked of a process without data"
        members = table[index.to(table.device)]
        return lambda some: family.distribution(members[some])

    return proposal


class Clock:
    """Share of the work of a stage that is done, from the batches behind it and from within an estimator.

    Args:
        stage: Where it is shown.
        images: Number of images of the stage.
        costs: Cost of each estimator.
    """

    def __init__(self, stage: Stage, images: int, costs: Sequence[float]) -> None:
        self.stage, self.images, self.done = stage, images, 0
        whole = sum(costs) or 1.0
        self.shares = [cost / whole for cost in costs]

    def ticker(self, images: int, i: int) -> Callable[[float], None]:
        """Function that estimator i calls while it works on a batch of so many images."""
        return lambda share: self.stage.at(
            (self.done + images * (sum(self.shares[:i]) + self.shares[i] * share)) / max(1, self.images)
        )

    def finished(self, images: int) -> None:
        """A batch of so many images is done."""
        self.done += images
        self.stage.at(self.done / self.images)


def _batch(rows: Rows, estimators: Sequence[Evidence], k: int, clock: Clock) -> EvalResult:
    evidence = []
    with exact_arithmetic(rows.x.device):
        for i, one in enumerate(estimators):
            rows.tick = clock.ticker(len(rows), i)
            # off the device at once, for the results of all batches are kept
            evidence.append(_checked(one.estimate(rows), rows).cpu())
        own = _checked(elbo(rows, k), rows, finite=True)
        curve = thermodynamic_curve(rows.weights(k).log_w, BETAS)
    clock.finished(len(rows))
    return EvalResult(own.cpu(), evidence, curve.cpu())


def batches_of(mine: Int[Tensor, " m"], k: int, estimators: Sequence[Evidence] = ()) -> tuple[Tensor, ...]:
    """The data in batches whose weights fit into memory, k of each datum and those of every estimator."""
    if not len(mine):
        return ()
    most = max([k, *(getattr(one, "k", 1) for one in estimators)])
    return mine.split(max(1, min(MOST_DATA, MOST_WEIGHTS // most)))


def _checked(evidence: LogEvidence, rows: Rows, *, finite: bool = False) -> LogEvidence:
    bad = ~evidence.value.isfinite() if finite else evidence.value.isnan()
    if evidence.kind in ("lower", "exact"):
        bad = bad | evidence.value.isposinf()
    if bad.any():
        row = int(rows.keys.index[bad][0])
        raise RunError(
            f"{evidence.name} of row {row} is {evidence.value[bad][0].item()}: the model or q gives it no number, its "
            "density has no bound there, or q puts z where the model has no mass; nothing was averaged."
        )
    return evidence


def in_order(shares: list[tuple[Tensor, T | None]], cat: Callable[[list[T]], T]) -> T:
    """The results of all processes in the order of the rows."""
    held = [(index, part) for index, part in shares if part is not None]
    order = torch.cat([index for index, _ in held]).argsort()
    return cat([part for _, part in held]).select(order)  # type: ignore[attr-defined]
