"""The sums that the M-step of a mixture of Gaussians needs.

Of r, r w and r w w' per component, with $w = L_c^{-1} (x - m_c)$ at the parameters they are taken under: relative to
the component they are of, however narrow it is, they lose no digit.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taut.functional.gaussian import Partial
from taut.functional.missing import patterns

Sums = dict[str, Tensor]


def of_clusters(
    rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], count: int
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c d"], Float[Tensor, "c d d"]]:
    """Number of rows, mean, and sum of squares and products about the mean, of each cluster of rows."""
    counts = labels.bincount(minlength=count)
    # stable: the rows of a cluster are summed in one order, so its sums round alike
    own = rows[labels.argsort(stable=True)].split(counts.tolist())
    # an empty cluster gets a mean of 0 instead of 0 / 0
    means = torch.stack([some.sum(0) for some in own]) / counts.clamp_min(1).unsqueeze(-1)
    # about the mean: a difference of sums of squares would cancel
    second = [(some - mean).mT @ (some - mean) for some, mean in zip(own, means, strict=True)]
    return counts.to(means), means, torch.stack(second)


def complete(
    rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"], means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]
) -> Sums:
    """Sums over data without missing cells under responsibilities r."""
    whitened = torch.linalg.solve_triangular(factors, (rows - means.unsqueeze(1)).mT, upper=False)
    weighted = whitened * r.mT.unsqueeze(1)
    return {"counts": r.sum(0), "first": weighted.sum(-1), "second": weighted @ whitened.mT}


def expected(
    rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"], means: Float[Tensor, "c d"], factors: Float[Tensor, "c d d"]
) -> Sums:
    """Sums with the missing cells filled in expectation, under each component (Ghahramani & Jordan, 1994)."""
    first, second = torch.zeros_like(means), torch.zeros_like(factors)
    for pattern in patterns(rows):
        part, weight = Partial.of(pattern, means, factors), r[pattern.rows]
        difference = (part.mean(rows) - means).flatten(0, 1).movedim(0, -1)  # [c, d, p n]
        spread = part.missing_factor.movedim(0, 2).flatten(2)  # [c, d, p d]
        solved = torch.linalg.solve_triangular(factors, torch.cat([difference, spread], -1), upper=False)
        whitened, spread = solved.split([difference.shape[-1], spread.shape[-1]], -1)
        weighted = whitened * weight.flatten(0, 1).mT.unsqueeze(1)
        of_masks = weight.sum(1).mT.repeat_interleave(rows.shape[1], -1)  # [c, p d]
        first += weighted.sum(-1)
        second += weighted @ whitened.mT + (spread * of_masks.unsqueeze(1)) @ spread.mT
    return {"counts": r.sum(0), "first": first, "second": second}


def added(one: Sums, other: Sums) -> Sums:
    """Entry by entry."""
    return {name: value + other[name] for name, value in one.items()}


def moved(
    sums: Sums,
    old: tuple[Float[Tensor, "c d"], Float[Tensor, "c d d"]],
    new: tuple[Float[Tensor, "c d"], Float[Tensor, "c d d"]],
) -> Sums:
    """Turn sums into those relative to other means and factors."""
    turn = torch.linalg.solve_triangular(new[1], old[1], upper=False)
    far = torch.linalg.solve_triangular(new[1], (old[0] - new[0]).unsqueeze(-1), upper=False).squeeze(-1)
    counts, turned = sums["counts"].unsqueeze(-1), (turn @ sums["first"].unsqueeze(-1)).squeeze(-1)
    cross = turned.unsqueeze(-1) * far.unsqueeze(-2)
    second = turn @ sums["second"] @ turn.mT + cross + cross.mT
    second = second + counts.unsqueeze(-1) * far.unsqueeze(-1) * far.unsqueeze(-2)
    return {"counts": sums["counts"], "first": turned + counts * far, "second": second}
