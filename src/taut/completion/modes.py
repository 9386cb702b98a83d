"""The most probable value of a cell under a mixture of Gaussians."""

import torch
from jaxtyping import Float
from torch import Tensor

FIRST = 4
"""Steps from every component mean, before the highest are chosen."""

FEW = 3
"""Number of those that are climbed from."""

STEPS = 10
"""Steps to the top; Newton's converge quadratically."""


def modes(
    weights: Float[Tensor, "k *#c"], means: Float[Tensor, "k *#c"], deviations: Float[Tensor, "k *#c"]
) -> Float[Tensor, "..."]:
    r"""Argmax of $\sum_k w_k N(x; m_k, s_k^2)$ for every cell.

    From every mean the fixed-point iteration $x \leftarrow \sum_k r_k m_k / \sum_k r_k$, $r_k = w_k N(x; m_k, s_k^2) /
    s_k^2$, climbs towards a mode (Carreira-Perpinan, 2000); the highest few go on, by Newton's method where that climbs
    higher, and the highest end is returned. A component of deviation 0 is a cell that is known: its mean.
    """
    mixture = (weights, means, deviations.clamp_min(torch.finfo(means.dtype).tiny ** 0.25))
    starts = torch.stack([_first_steps(x, *mixture) for x in means])
    heights = torch.stack([_height(x, *mixture) for x in starts])
    ends = [_climbed(x, *mixture) for x in starts.gather(0, heights.topk(min(FEW, len(means)), 0).indices)]
    return _highest(torch.stack(ends), *mixture)


def _first_steps(x: Tensor, *mixture: Tensor) -> Tensor:
    for _ in range(FIRST):
        x = _fixed_point(x, *mixture)
    return x


def _climbed(x: Tensor, *mixture: Tensor) -> Tensor:
    for _ in range(STEPS):
        x = _highest(torch.stack([x, _fixed_point(x, *mixture), _newton(x, *mixture)]), *mixture)
    return x


def _highest(candidates: Tensor, *mixture: Tensor) -> Tensor:
    heights = torch.stack([_height(x, *mixture) for x in candidates]).nan_to_num(-torch.inf)
    return candidates.gather(0, heights.argmax(0, keepdim=True))[0]


def _log_terms(x: Tensor, weights: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    return weights.log() - 0.5 * ((x - means) / scales).square() - scales.log()


def _height(x: Tensor, *mixture: Tensor) -> Tensor:
    return _log_terms(x, *mixture).logsumexp(0)


def _fixed_point(x: Tensor, *mixture: Tensor) -> Tensor:
    _, means, scales = mixture
    share = (_log_terms(x, *mixture) - 2 * scales.log()).softmax(0)
    return (share * means).sum(0)


def _newton(x: Tensor, *mixture: Tensor) -> Tensor:
    """One step on log p."""
    _, means, scales = mixture
    share, pull = _log_terms(x, *mixture).softmax(0), (means - x) / scales.square()
    slope = (share * pull).sum(0)
    curvature = (share * (pull.square() - scales.square().reciprocal())).sum(0) - slope.square()
    return x - slope / curvature
