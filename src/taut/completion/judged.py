"""Completions held against the truth: scores of draws, errors of single completions, and scikit-learn's beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional.proper_scores import covered, crps, energy_score
from taut.functional.statistics import Moments
from taut.functional.types import PerDatum

SHARES = {"coverage_50": 0.5, "coverage_90": 0.9}
"""Intervals whose coverage is counted."""


@dataclass(frozen=True)
class Judged:
    """Sums over the hidden cells of each datum whose truth is known, ``[b]``, in float64.

    Args:
        cells: How many those are.
        energy: Energy score of them all; 0 where there are none.
        crps: Sum of their ranked probability scores.
        covered: By share, how many lie in the interval; empty for a single completion.
    """

    cells: PerDatum
    energy: PerDatum
    crps: PerDatum
    covered: dict[str, PerDatum]

    @classmethod
    def of(
        cls,
        draws: Float[Tensor, "m b *x"],
        x: Float[Tensor, "b *x"],
        truth: Float[Tensor, "b *x"],
        scale: Float[Tensor, "*x"],
    ) -> "Judged":
        """The sums of some data.

        Args:
            draws: Draws of a forecast, all cells; a single one is the forecast that is certain of it.
            x: The data with missing cells.
            truth: The data; NaN where the truth is not known either.
            scale: Unit of every cell.
        """
        scored = x.isnan() & ~truth.isnan()
        # a cell that is not scored is 0 in the truth and in every draw, and adds nothing to a distance
        came = torch.where(scored, truth / scale, 0.0).double()
        forecast = torch.where(scored, draws / scale, 0.0).double()

        def over_cells(values: Tensor) -> Tensor:
            return torch.where(scored, values, 0.0).flatten(1).sum(1)

        held = {} if len(draws) == 1 else SHARES
        return cls(
            scored.flatten(1).sum(1).double(),
            energy_score(forecast, came),
            over_cells(crps(forecast, came)),
            {name: over_cells(covered(forecast, came, share)) for name, share in held.items()},
        )

    def select(self, order: Tensor) -> "Judged":
        """Some of the data, or all in another order."""
        held = {name: values[order] for name, values in self.covered.items()}
        return Judged(self.cells[order], self.energy[order], self.crps[order], held)

    def cpu(self) -> "Judged":
        """Copy the numbers to main memory."""
        return Judged(
            self.cells.cpu(), self.energy.cpu(), self.crps.cpu(), {k: v.cpu() for k, v in self.covered.items()}
        )

    @staticmethod
    def cat(parts: "Sequence[Judged]") -> "Judged":
        """The sums of further data."""
        held = {name: torch.cat([part.covered[name] for part in parts]) for name in parts[0].covered}
        cells, energy, ranked = (torch.cat([getattr(p, name) for p in parts]) for name in ("cells", "energy", "crps"))
        return Judged(cells, energy, ranked, held)

    def scores(self) -> dict[str, dict[str, float]]:
        """Energy score per datum, CRPS and coverage per cell, with standard errors over the data."""
        energy = Moments.of(self.energy[self.cells > 0])
        whole = {"value": energy.mean.item(), "standard_error": energy.standard_error.item()}
        return {
            "energy": whole,
            "crps": ratio(self.crps, self.cells),
            **{name: ratio(values, self.cells) for name, values in self.covered.items()},
        }


def ratio(sums: PerDatum, counts: PerDatum) -> dict[str, float]:
    """Mean over all cells of sums over those of each datum; its standard error over the data by the delta method."""
    total, n = counts.sum(), len(sums)
    if not total:
        return {"value": math.nan, "standard_error": math.nan}
    mean = sums.sum() / total
    spread = (sums - mean * counts).square().sum() * n / max(1, n - 1)
    return {"value": mean.item(), "standard_error": (spread.sqrt() / total).item() if n > 1 else math.nan}


def by_mean(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X with each missing cell at the training mean of its column; rows ``[n, d]``, NaN where missing."""
    from sklearn.impute import SimpleImputer  # here, where it is needed: a second or two

    # by default scikit-learn drops columns without an observed cell
    return SimpleImputer(keep_empty_features=True).fit(train).transform(x)  # type: ignore[return-value]


def by_nearest(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X completed by the training row that is nearest in the observed cells.

    That is scikit-learn's ``KNNImputer`` with one neighbour, which is used where training rows have missing cells.
    Among complete rows the nearest is the same for all cells of x, and is searched for once.
    """
    from sklearn.impute import KNNImputer
    from sklearn.metrics import pairwise_distances_argmin

    if np.isnan(train).any():
        return KNNImputer(n_neighbors=1, keep_empty_features=True).fit(train).transform(x)  # type: ignore[return-value]
    known = ~np.isnan(x).all(1)
    nearest = np.zeros(len(x), dtype=int)
    if known.any():
        nearest[known] = pairwise_distances_argmin(x[known], train, metric="nan_euclidean")
    return np.where(np.isnan(x), train[nearest], x)


def cell_errors(
    completed: Float[Tensor, "b *x"],
    truth: Float[Tensor, "b *x"],
    x: Float[Tensor, "b *x"],
    scale: Float[Tensor, "*x"],
    *,
    binary: bool,
) -> dict[str, dict[str, float]]:
    r"""Root mean squared error, the same in standard deviations of each column, and error rate of binary cells.

    $\mathrm{RMSE} = (\sum_n S_n / \sum_n m_n)^{1/2}$, $S_n$ the squared errors of the $m_n$ hidden cells of datum n.
    Its standard error over the data is that of a ratio, by the delta method.

    Args:
        completed: The completions.
        truth: The data; NaN where the truth is not known either.
        x: The data with missing cells.
        scale: Standard deviation of every column.
        binary: Whether cells are zeros and ones; a completion counts as one from one half on.
    """
    scored = x.isnan() & ~truth.isnan()
    # where, not a product: NaN times 0 is NaN
    difference = torch.where(scored, completed - truth, 0.0).double()
    errors = {"rmse": _root(_ratio(difference.square(), scored))}
    errors["nrmse"] = _root(_ratio((difference / scale).square(), scored))
    if binary:
        wrong = torch.where(scored, ((completed >= 0.5) != (truth >= 0.5)).double(), 0.0)
        errors["error_rate"] = _ratio(wrong, scored)
    return errors


def _ratio(values: Tensor, scored: Tensor) -> dict[str, float]:
    return ratio(values.flatten(1).sum(1), scored.flatten(1).sum(1).double())


def _root(square: dict[str, float]) -> dict[str, float]:
    root = math.sqrt(square["value"])
    # the delta method divides by the root, which is 0 where nothing is wrong
    return {"value": root, "standard_error": square["standard_error"] / (2 * root) if root > 0 else 0.0}
