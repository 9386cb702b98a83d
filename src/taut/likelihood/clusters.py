"""Where a mixture starts: the clusters of k-means (Lloyd, 1982), by scikit-learn."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

KMEANS_ROWS = 2**14
"""Rows that k-means looks at; of a larger table a random choice of so many."""
DISTANCE_ROWS = 2**14
"""Rows whose distances are held at once."""


def clusters(rows: Float[Tensor, "n d"], count: int, seed: int, *, tries: int = 1) -> Int[Tensor, " n"]:
    """The number of each row's cluster: k-means from a k-means++ start (Arthur & Vassilvitskii, 2007).

    Args:
        rows: Data without holes, columns in like units.
        count: Number of clusters.
        seed: Seed of the start, and of the choice of rows.
        tries: Number of starts, of which the one with the nearest centres is taken.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if count == 1:
        return torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    chosen = rows if len(rows) <= KMEANS_ROWS else rows[_some(len(rows), seed).to(rows.device)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        means = KMeans(count, n_init=tries, random_state=seed)  # pyright: ignore[reportArgumentType] (its stub's fault)
        found = means.fit(chosen.double().cpu().numpy())
    centres = torch.as_tensor(found.cluster_centers_).to(rows)
    return torch.cat([torch.cdist(part, centres).argmin(-1) for part in rows.split(DISTANCE_ROWS)])


def _some(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:KMEANS_ROWS]
