"""A bracket to a tolerance against L_5000 of the same images: ``python -m benchmarks.bracket run=<run>``.

L_5000, the bound that papers print, is ``taut.evidence.Importance``; the bracket is that of ``evaluate.py tolerance=``,
pilots included. Both take turns on one thread, and their CPU time is compared.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks import report
from taut.evidence import Importance, Target
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalTask
from taut.evidence.tolerance import Bracketed, Goal, bracket
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """A result and the CPU seconds it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def bracketed(target: Target, x: Tensor, goal: Goal, seed: int) -> Bracketed:
    """The bracket of the mean over some data."""
    stages = Stages(shown=False)
    task = EvalTask(target, x, "bracket", seed, 100)
    return bracket(task, goal, Processes(), stages.stage("pilots", len(x)), stages.stage("draws", len(x)))


def compare(target: Target, x: Tensor, tolerances: Sequence[float], k: int, seed: int = 0) -> list[Mapping[str, Any]]:
    """A row for each tolerance, with L_k drawn and timed anew beside it."""
    Importance(k)(target, x[:2])  # what is loaded at the first call is not counted
    rows: list[Mapping[str, Any]] = []
    for tolerance in tolerances:
        goal = Goal(tolerance)
        plain, seconds = timed(lambda: Importance(k)(target, x, seed=seed))
        found, own = timed(lambda goal=goal: bracketed(target, x, goal, seed))
        summary = found.summary(goal)
        rows.append(
            {
                "seed": seed,
                "tolerance": tolerance,
                "plain": plain,
                "lower": found.lower,
                "upper": found.upper,
                "seconds": own,
            }
            | {"times": own / seconds, **{name: summary[name] for name in ("reached", "half_width", "evaluations")}}
        )
    return rows


def main(args: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Compare on the first images of the test split of a run; prints the table."""
    import taut

    run = taut.load(args.run)
    target, x = Target.of(run.model.module.joint, run.model.module.q), run.data.rows_of("test")[: args.images]
    rows = [row for seed in args.seeds for row in compare(target, x, args.tolerances, args.k, seed)]
    print(f"{run.name}, {len(x)} images, nats\n\n{table(rows, args.k)}")
    return rows


def table(rows: Sequence[Mapping[str, Any]], k: int) -> str:
    """The bounds, their noise and their cost."""

    def ends(bound: LogEvidence) -> str:
        return f"{bound.mean:.3f} ± {bound.monte_carlo_error:.3f}"

    cells = [
        [
            f"{row['seed']}",
            f"{row['tolerance']:g}",
            *(ends(row[name]) for name in ("plain", "lower", "upper")),
            f"{row['half_width']:.2f}",
            "yes" if row["reached"] else "no",
            f"{row['evaluations']:,.0f}",
            f"{row['seconds']:.1f}",
            f"{row['times']:.2f}",
        ]
        for row in rows
    ]
    head = [
        "seed",
        "tolerance",
        f"L_{k:,}",
        "lower",
        "upper",
        "half of the bracket",
        "reached",
        "evaluations per image",
    ]
    return report.table([*head, "CPU s", f"of L_{k:,}'s"], cells)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("run", type=lambda word: word.removeprefix("run="), help="folder of a run")
    found.add_argument("--images", type=int, default=200, help="images of the test split, default 200")
    found.add_argument("--k", type=int, default=5000, help="samples of the plain bound, default 5000")
    found.add_argument("--tolerances", type=float, nargs="+", default=[1.0, 0.5, 0.2], help="nats, default 1 0.5 0.2")
    found.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the noise, default 0")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parser().parse_args())
