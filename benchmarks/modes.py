"""Modes that q misses: how often ``evidence=modes`` finds them, and cries wolf: ``python -m benchmarks.modes``.

The posterior of each datum has two Gaussian modes of half the mass each, apart by a distance in a direction of its own,
or one; p(z) is a standard Gaussian, the modes 0.3 wide, and q, 5% wider, sits on the mode at the centre of p(z). Where
a column says so, the missed mode has 0.4 or 2.5 times the width of the other. At K evaluations beside the K draws of
importance sampling, the whole costs twice as much as that alone. The last columns are those of chains annealed from
p(z) by as many evaluations: how often their log p(x) is nearer to that of both modes than to that of one.
"""

import argparse
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from benchmarks import report
from taut.evidence import AIS, Modes, Target
from taut.evidence.diagnostics import MAX_MISSED
from taut.testing import Known

KINDS = ("missed", "one mode", "both")
"""q sits on one of two modes; there is one; q fits both."""
WIDTH, LOOSE = 0.3, 1.05
OTHERS = (0.4, 2.5)
"""Widths of the missed mode, in that of the other."""


def arena(dim: int, distance: float, n: int, kind: str, other: float = 1.0, seed: int = 0) -> Known:
    """Data whose posterior has two modes, or one; log p(x) is 0.

    Args:
        dim: Coordinates of z.
        distance: From mode to mode, in standard deviations of the one that q sits on.
        n: Number of data.
        kind: One of :data:`KINDS`.
        other: Width of the other mode in that of the first.
        seed: Of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn((n, dim), generator=generator, dtype=torch.float64)
    x = distance * WIDTH * direction / direction.norm(dim=1, keepdim=True)

    def mode(at: Tensor, width: float) -> Independent:
        return Independent(Normal(at, width), 1)

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        first = mode(torch.zeros_like(x), WIDTH).log_prob(z)
        if kind == "one mode":
            return first
        return torch.logaddexp(first, mode(x, other * WIDTH).log_prob(z)) - math.log(2)

    def q(x: Tensor) -> Distribution:
        if kind != "both":
            return mode(torch.zeros_like(x), LOOSE * WIDTH)
        places = mode(torch.stack([torch.zeros_like(x), x], 1), LOOSE * WIDTH)
        return MixtureSameFamily(Categorical(torch.ones(len(x), 2, dtype=torch.float64)), places)

    prior = Independent(Normal(torch.zeros(dim, dtype=torch.float64), 1.0), 1)
    return Known(Target(log_joint, q, prior), x, x, torch.zeros(n, dtype=torch.float64))


def alarms(known: Known, k: int) -> float:
    """Share of the data that the alarm is raised for."""
    found = Modes(k)(known.target, known.x)
    return (found.diagnostics["missed"] > MAX_MISSED).double().mean().item()


def tempered(known: Known, k: int) -> float:
    """Share of the data of which chains from p(z), annealed by k evaluations at most, find the mass of both modes."""
    chains, leapfrog = 16, 2
    steps = max(1, k // (3 * chains * leapfrog))
    found = AIS(steps, chains, leapfrog, start="prior")(known.target, known.x)
    return (found.value > -math.log(2) / 2).double().mean().item()


def main(args: argparse.Namespace) -> list[Mapping[str, Any]]:
    """A row for each dimension and distance; prints the table."""
    rows: list[Mapping[str, Any]] = []
    for dim in args.dims:
        for distance in args.distances:
            start = time.process_time()
            row: dict[str, Any] = {"dim": dim, "distance": distance}
            row |= {kind: alarms(arena(dim, distance, args.trials, kind), args.k) for kind in KINDS}
            for width in (1.0, *OTHERS):
                missed = arena(dim, distance, args.trials, "missed", width)
                row |= {f"chains, {width}": tempered(missed, args.k)}
                if width in OTHERS:
                    row |= {f"{width}": alarms(missed, args.k)}
            rows.append({**row, "seconds": time.process_time() - start})
    names = (*KINDS, *map(str, OTHERS), *(f"chains, {width}" for width in (1.0, *OTHERS)))
    cells = [[str(row["dim"]), f"{row['distance']:g}", *(f"{row[name]:.1%}" for name in names)] for row in rows]
    head = ["dimensions", "distance", "found", "one mode: alarms", "q fits both: alarms", "found, 0.4 wide", "2.5 wide"]
    head += ["by chains", "0.4 wide", "2.5 wide"]
    cost = Modes(args.k)
    print(f"{args.trials:,} data each, {cost.cost:,.0f} evaluations of p(x, z), {cost.draws} of them draws\n")
    print(report.table(head, cells))
    return rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--trials", type=int, default=400, help="data of each cell, default 400")
    found.add_argument("--k", type=int, default=1000, help="evaluations for each datum, default 1000")
    found.add_argument("--dims", type=int, nargs="+", default=[2, 5, 10, 20, 50], help="dimensions of z")
    found.add_argument("--distances", type=float, nargs="+", default=[3, 5, 10], help="standard deviations apart")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(parser().parse_args())
