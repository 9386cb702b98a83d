"""The most probable value of a cell under a mixture of Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 20
"""Fixed-point steps; each at least halves the error near a mode of separated components."""


def modes(
    weights: Float[Tensor, "k *#c"], means: Float[Tensor, "k *#c"], deviations: Float[Tensor, "k *#c"]
) -> Float[Tensor, "..."]:
    r"""Argmax of $\sum_k w_k N(x; m_k, s_k^2)$ for every cell.

    From the component mean of highest density the fixed-point iteration $x \leftarrow \sum_k r_k m_k / \sum_k r_k$,
    $r_k = w_k N(x; m_k, s_k^2) / s_k^2$, climbs to the mode (Carreira-Perpinan, 2000). A component of deviation 0 is a
    cell that is known: its mean.
    """
    scales = deviations.clamp_min(torch.finfo(means.dtype).tiny ** 0.25)
    best, top = means[0], torch.full_like(means[0], -torch.inf)
    for candidate in means:
        height = _log_terms(candidate, weights, means, scales).logsumexp(0)
        best = torch.where(height > top, candidate, best)
        top = torch.maximum(height, top)
    for _ in range(STEPS):
        share = (_log_terms(best, weights, means, scales) - 2 * scales.log()).softmax(0)
        best = (share * means).sum(0)
    return best


def _log_terms(x: Tensor, weights: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    return weights.log() - 0.5 * ((x - means) / scales).square() - scales.log()
