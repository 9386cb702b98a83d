"""Errors of single completions where the truth is known, and scikit-learn's imputers to compare them with."""

import math

import numpy as np
import torch
from jaxtyping import Float
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.metrics import pairwise_distances_argmin
from torch import Tensor

from taut.completion.judged import ratio


def by_mean(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X with each missing cell at the training mean of its column; rows ``[n, d]``, NaN where missing."""
    # by default scikit-learn drops columns without an observed cell
    return SimpleImputer(keep_empty_features=True).fit(train).transform(x)  # type: ignore[return-value]


def by_nearest(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X completed by the training row that is nearest in the observed cells.

    That is scikit-learn's ``KNNImputer`` with one neighbour, which is used where training rows have missing cells.
    Among complete rows the nearest is the same for all cells of x, and is searched for once.
    """
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
