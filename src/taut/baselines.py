"""What completions are held against: scikit-learn's imputers."""

import numpy as np
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.metrics import pairwise_distances_argmin


def by_mean(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X with each hole at the training mean of its column; rows ``[n, d]``, NaN where missing."""
    return SimpleImputer(keep_empty_features=True).fit(train).transform(x)  # type: ignore[return-value]


def by_nearest(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """X completed by the training row that is nearest in the observed cells.

    That is scikit-learn's ``KNNImputer`` with one neighbour, which is used where training rows have holes. Among
    complete rows the nearest is the same for all cells of x, and is searched for once.
    """
    if np.isnan(train).any():
        return KNNImputer(n_neighbors=1, keep_empty_features=True).fit(train).transform(x)  # type: ignore[return-value]
    known = ~np.isnan(x).all(1)
    nearest = np.zeros(len(x), dtype=int)
    if known.any():
        nearest[known] = pairwise_distances_argmin(x[known], train, metric="nan_euclidean")
    return np.where(np.isnan(x), train[nearest], x)
