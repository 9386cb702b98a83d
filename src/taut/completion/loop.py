"""Completing the data of a split, batch by batch, on one process or several.

Apart from :mod:`taut.completion.complete`, which programs import without Lightning.
"""

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from taut.completion.complete import Completions, complete
from taut.completion.judged import Judged
from taut.evidence.loop import Clock, EvalTask, batches_of, in_order
from taut.functional.proper_scores import ENSEMBLE
from taut.model.joint import Joint
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage


@dataclass(frozen=True)
class Truth:
    """What completions are held against.

    Args:
        x: The data without holes; NaN where nobody knows.
        scale: Unit of every cell.
    """

    x: Float[Tensor, "n *x"]
    scale: Float[Tensor, "*x"]


def complete_data(
    joint: Joint, question: EvalTask, draws: int, processes: Processes, stage: Stage, truth: Truth | None = None
) -> tuple[Completions, Judged | None]:
    """Completions of data with missing cells, and the scores of their draws where the truth is known.

    Args:
        joint: The model.
        question: The data.
        draws: Draws of each datum that are kept; ``ENSEMBLE`` are made, and the first kept, where they are scored.
        processes: The processes that share the work.
        stage: The stage on the progress bar.
        truth: What the draws are scored by.
    """
    mine = processes.rows(len(question.x))
    clock = Clock(stage, len(mine), [1.0])
    parts, judged = [], []
    many = draws if truth is None else max(draws, ENSEMBLE)
    for index in batches_of(mine, question.k):
        rows = question.rows(index, processes)
        # to main memory, since draws of a whole split may not fit that of a GPU
        made = complete(joint, rows.q, rows.x, rows.keys, k=question.k, draws=many).cpu()
        if truth is not None:
            judged.append(Judged.of(made.draws[:ENSEMBLE], rows.x.cpu(), truth.x[index], truth.scale))
        # a copy, or the draws that are not kept would stay in memory with those that are
        parts.append(replace(made, draws=made.draws[:draws].clone()))
        clock.finished(len(index))
    completions = in_order(processes.gathered((mine, Completions.cat(parts) if parts else None)), Completions.cat)
    if truth is None:
        return completions, None
    return completions, in_order(processes.gathered((mine, Judged.cat(judged) if judged else None)), Judged.cat)
