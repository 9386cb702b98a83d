"""How often brackets to a stated tolerance hold the truth, and what they cost: ``python -m benchmarks.tolerance``.

Exactly solvable models: linear-Gaussian ones, whose q is mean-field, too wide and off its centre, a mixture of three
Gaussians in the plane, with a q that knows nothing of it, and a q that is too narrow, so that its weights have no
variance. Every trial has noise of its own.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from benchmarks import report
from taut.evidence import Target
from taut.evidence.loop import EvalTask
from taut.evidence.tolerance import Goal, bracket
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.testing import Known, linear_gaussian


def mixture(n: int) -> Known:
    """p(z) a mixture of three Gaussians in the plane, x = z + noise: a mixture again; q a Gaussian around x."""
    centres = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]], dtype=torch.float64)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def mixed(scale: float) -> MixtureSameFamily:
        return MixtureSameFamily(Categorical(shares), Independent(Normal(centres, scale), 1))

    prior, noise = mixed(0.5), 0.4
    with torch.random.fork_rng():
        torch.manual_seed(1)
        z = prior.sample((n,))
        x = z + noise * torch.randn_like(z)
    target = Target(
        lambda x, z: prior.log_prob(z) + Normal(z, noise).log_prob(x).sum(-1),
        lambda x: Independent(Normal(0.6 * x, 0.7), 1),
        prior,
    )
    return Known(target, x, z, mixed(math.hypot(0.5, noise)).log_prob(x))


MODELS: dict[str, Callable[[int], Known]] = {
    "linear-Gaussian, 1 dimension": lambda n: linear_gaussian(1, 3, n, width=1.3, shift=0.5),
    "linear-Gaussian, 2 dimensions": lambda n: linear_gaussian(2, 4, n, width=1.4, shift=0.3),
    "mixture in the plane": mixture,
    "linear-Gaussian, 1 dimension, q 0.6 times as wide": lambda n: linear_gaussian(1, 3, n, width=0.6),
}


def trial(known: Known, goal: Goal, seed: int) -> tuple[dict[str, Any], Tensor]:
    """One bracket: its summary, and which data it misses."""
    stages, n = Stages(shown=False), len(known.x)
    task = EvalTask(known.target, known.x, "tolerance", seed, 100)
    found = bracket(task, goal, Processes(), stages.stage("pilots", n), stages.stage("draws", n))
    low, high = found.ends(goal)
    return found.summary(goal), (known.log_px < low) | (known.log_px > high)


def coverage(known: Known, goal: Goal, trials: int) -> dict[str, float]:
    """Shares of the brackets that hold the truth and that are as narrow as asked, and evaluations per datum.

    Args:
        known: Data whose log p(x) is known.
        goal: Of the mean over the data, or of each datum: then every datum is a trial.
        trials: Number of brackets.
    """
    truth, start = known.log_px.mean().item(), time.process_time()
    if goal.per_datum:
        ((summary, missed),) = [trial(known, goal, 0)]
        held, narrow, cost = 1 - missed.double().mean().item(), summary["share"], summary["evaluations"]
    else:
        every = [trial(known, goal, seed)[0] for seed in range(trials)]
        held = sum(one["low"] <= truth <= one["high"] for one in every) / trials
        narrow = sum(one["reached"] for one in every) / trials
        cost = sum(one["evaluations"] for one in every) / trials
    return {"held": held, "narrow": narrow, "evaluations": cost, "seconds": time.process_time() - start}


def main(args: argparse.Namespace) -> list[Mapping[str, Any]]:
    """A row for each model and goal; prints the table."""
    rows: list[Mapping[str, Any]] = []
    for name, known in MODELS.items():
        for tolerance in args.tolerances:
            for per_datum in (False, True):
                goal = Goal(tolerance, per_datum, args.confidence)
                found = coverage(known(args.trials if per_datum else args.data), goal, args.trials)
                rows.append({"model": name, "tolerance": tolerance, "per_datum": per_datum, **found})
    cells = [
        [
            str(row["model"]),
            f"{row['tolerance']:g}",
            "each datum" if row["per_datum"] else f"mean of {args.data}",
            f"{row['held']:.1%}",
            f"{row['narrow']:.1%}",
            f"{row['evaluations']:,.0f}",
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    head = ["model", "tolerance", "of", "hold the truth", "as narrow as asked", "evaluations per datum", "CPU s"]
    print(f"{args.trials:,} trials, {args.confidence:.0%} confidence\n\n{report.table(head, cells)}")
    return rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--trials", type=int, default=1000, help="brackets of each kind, default 1000")
    found.add_argument("--data", type=int, default=4, help="data of a mean, default 4")
    found.add_argument("--confidence", type=float, default=0.95, help="of the brackets, default 0.95")
    found.add_argument("--tolerances", type=float, nargs="+", default=[0.1, 0.02], help="nats, default 0.1 0.02")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parser().parse_args())
