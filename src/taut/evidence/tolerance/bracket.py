"""A bracket of log p(x): pilots fix the sizes, and fresh draws of these sizes give both ends."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from taut.evidence.exact import Exact
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalTask, batches_of, in_order
from taut.evidence.tolerance.goal import METHODS, Bracketed, Goal
from taut.evidence.tolerance.method import FIRST, Method, khat_of_chains, tail
from taut.evidence.tolerance.scouts import STEPS
from taut.evidence.tolerance.survey import Survey
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.functional.precision import exact_arithmetic
from taut.functional.types import PerDatum
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage

GROUPS = 32
"""Most groups of draws that are left out, one at a time, for the error of the upper bound."""
LOWER, UPPER = "tolerance_lower", "tolerance_upper"


def bracket(question: EvalTask, goal: Goal, processes: Processes, pilots: Stage, stage: Stage) -> Bracketed:
    r"""Bracket $\log p(x)$ of every datum so that half of the width is the tolerance, noise included.

    The lower end is the log of a mean of K weights, the upper one
    :func:`taut.functional.bounds.leave_one_out_upper` of the same weights, which have the same mean whichever of
    :data:`METHODS` they are of. Both rest on what the proposal visits: see ``evidence=modes`` for what it does not.

    Args:
        question: The data; a ``proposal`` of theirs is not used.
        goal: How narrow, and at what cost at most.
        processes: The processes that share the data.
        pilots: Where the progress of the pilots is shown.
        stage: Where that of the fresh draws is shown.
    """
    if question.target.exact is not None or question.target.discrete:
        return _exact(question, processes)
    survey = Survey(question, goal, processes, pilots)
    survey.explore()
    pilots.at(1.0)
    found = in_order(processes.gathered((survey.mine, _fresh(survey, stage))), Bracketed.cat)
    k = round(found.draws.double().mean().item())
    return replace(found, lower=replace(found.lower, k=k), upper=replace(found.upper, k=k))


def _fresh(survey: Survey, stage: Stage) -> Bracketed | None:
    """The brackets of the data of this process, of draws whose number was fixed before; None without data."""
    sizes, cut = survey.sizes()
    kinds = torch.stack([survey.method, sizes], 1)
    drawn, done = [], 0.0
    whole = max(sum(k * survey.methods[number].cost for number, k in kinds.tolist()), 1.0)
    for number, k in kinds.unique(dim=0).tolist():
        method = survey.methods[number]
        for at in batches_of(((survey.method == number) & (sizes == k)).nonzero()[:, 0], k):
            purpose = f"value/{method.name}/{method.steps}"
            drawn.append((at, method, Weights(survey.sampler.weights(survey.mine[at], method, k, purpose))))
            done += len(at) * k * method.cost
            stage.at(min(1.0, done / whole))
    few = [weights.log_w.cpu() for _, _, weights in drawn if weights.k < FIRST]
    together = khat_of_chains([log_w for part in survey.processes.gathered(few) for log_w in part])
    parts = [
        ends(method, weights, survey.variance[at], survey.spent[at], cut[at], together) for at, method, weights in drawn
    ]
    return Bracketed.cat(parts).select(torch.cat([at for at, *_ in drawn]).argsort()) if parts else None


def ends(
    method: Method, weights: Weights, foreseen: PerDatum, spent: PerDatum, cut: Bool[Tensor, " b"], together: float
) -> Bracketed:
    """Both ends with their noise: at least the noise that the pilots have foreseen.

    Of skewed weights the rare large ones make both the mean and the variance. Fresh draws without one give a value that
    is too low and a noise that is too small, while pilots of other draws know better.
    """
    khat = tail(weights).cpu() if weights.k >= FIRST else torch.full_like(spent, together)
    draws = torch.full_like(cut, weights.k, dtype=torch.long)
    evaluations = spent + weights.k * method.cost
    known = {"ess": weights.ess.cpu(), "khat": khat, "draws": draws.double(), "evaluations": evaluations}
    least = foreseen / weights.k
    value, variance = weights.iwae.cpu(), weights.iwae_variance.cpu().maximum(least)
    lower = LogEvidence(LOWER, "lower", value, variance, weights.k, True, known)
    above = bounds.leave_one_out_upper(weights.log_w).cpu()
    noise = bounds.variance_of_leave_one_out_upper(weights.log_w, _groups(weights.k)).cpu().maximum(least)
    name = torch.full_like(draws, METHODS.index(method.name))
    exhausted = torch.full_like(cut, method.steps == STEPS[-1])
    upper = LogEvidence(UPPER, "upper", above, noise, weights.k, diagnostics={"khat": khat})
    return Bracketed(lower, upper, name, khat, draws, evaluations, cut, exhausted)


def _groups(k: int) -> int:
    """The largest number of groups that k draws can be divided into."""
    return max(groups for groups in range(1, GROUPS + 1) if k % groups == 0)


def _exact(question: EvalTask, processes: Processes) -> Bracketed:
    rows = question.rows(torch.arange(len(question.x)), processes)
    with exact_arithmetic(rows.x.device):
        value = Exact().estimate(rows).value.cpu()
    none, no = torch.zeros_like(value), torch.zeros(len(value), dtype=torch.bool)
    known = {"draws": none, "evaluations": none}
    lower = LogEvidence(LOWER, "lower", value, none, unbiased=True, diagnostics=known)
    kind = torch.full((len(value),), METHODS.index("exact"))
    return Bracketed(lower, LogEvidence(UPPER, "upper", value, none), kind, none, none.long(), none, no, no)
