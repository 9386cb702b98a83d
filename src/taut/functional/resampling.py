r"""Choices of some of K weighted draws: with replacement, and an unbiased one without.

A gradient $\sum_k \tilde w_k g_k$ costs a backward pass through every draw, although few of them have a weight. Burda
et al. (2016) draw one k with probability $\tilde w_k$ and go back through it alone. Here m draws are chosen without
replacement: k with probability $\pi_k = \min(1, \tilde w_k / \tau)$, where $\tau$ makes the $\pi_k$ sum to m, and
given the weight $\tilde w_k / \pi_k = \max(\tilde w_k, \tau)$, so that on average each counts as much as its
normalised weight. No other unbiased choice of m draws changes the weights less (Fearnhead & Clifford, 2003). One
uniform number chooses all m: systematic sampling.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def resample(
    weights: Float[Tensor, "k b"], m: int, u: Float[Tensor, " b"]
) -> tuple[Int[Tensor, "m b"], Float[Tensor, "m b"]]:
    r"""Choose m draws for each datum, with the weights that keep the sum over all draws unbiased.

    Args:
        weights: Normalised weights $\tilde w_k$.
        m: How many to choose, at most k.
        u: A number in [0, 1) for each datum.

    Returns:
        Indices into the k draws, all different, and their weights, 0 where fewer than m draws have any weight.
    """
    # the running sum of K chances loses digits that decide between draws; float64 has them to spare
    exact = weights.double()
    tau = threshold(exact, m)
    # tau is 0 where fewer than m draws have any weight: no 0 / 0
    chance = (exact / tau.clamp_min(torch.finfo(exact.dtype).tiny)).clamp_max(1.0)
    places = u.double().unsqueeze(-1) + torch.arange(m, device=u.device)
    # searchsorted warns of a boundary tensor that is not contiguous, and copies it
    index = torch.searchsorted(chance.cumsum(0).mT.contiguous(), places, right=True).mT
    # the chances may add up to less than m, by rounding or for want of weights, and leave a place without a draw
    nothing = index == len(weights)
    index = index.masked_fill(nothing, 0)
    resampled = torch.maximum(exact.gather(0, index), tau).masked_fill(nothing, 0.0)
    return index, resampled.to(weights.dtype)


def threshold(weights: Float[Tensor, "k b"], m: int) -> Float[Tensor, " b"]:
    r"""The $\tau$ with $\sum_k \min(1, \tilde w_k / \tau) = m$: the share of a draw that is not sure to be chosen."""
    largest = weights.sort(0, descending=True).values
    # summed from the smallest on, which would be lost beside the largest
    rest = largest.flip(0).cumsum(0).flip(0)[:m]
    candidates = rest / (m - torch.arange(m, device=weights.device)).unsqueeze(-1)
    first = (largest[:m] <= candidates).int().argmax(0, keepdim=True)
    return candidates.gather(0, first).squeeze(0)


def pick(weights: Float[Tensor, " k"], u: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Pick a draw by its weight for each uniform number, with replacement.

    This is sampling-importance-resampling (Rubin, 1987), and systematic where the numbers are evenly spaced.

    Args:
        weights: Normalised weights.
        u: Numbers in [0, 1).
    """
    steps = weights.cumsum(0)
    # times the last sum, which rounding keeps from being 1; clamped, as the product may round up to it
    return torch.searchsorted(steps, u * steps[-1], right=True).clamp_max(len(steps) - 1)
