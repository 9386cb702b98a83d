"""Completing the data of a split, batch by batch, on one process or several."""

from taut.completion.complete import Completions, complete
from taut.evidence.loop import Clock, EvalTask, batches_of, in_order
from taut.model.joint import Joint
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage


def complete_data(joint: Joint, question: EvalTask, draws: int, processes: Processes, stage: Stage) -> Completions:
    """Completions of data with missing cells."""
    mine = processes.rows(len(question.x))
    clock = Clock(stage, len(mine), [1.0])
    parts = []
    for index in batches_of(mine, question.k):
        rows = question.rows(index, processes)
        # to main memory, since draws of a whole split may not fit that of a GPU
        parts.append(complete(joint, rows.q, rows.x, rows.keys, k=question.k, draws=draws).cpu())
        clock.finished(len(index))
    return in_order(processes.gathered((mine, Completions.cat(parts) if parts else None)), Completions.cat)
