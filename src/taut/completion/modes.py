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

MOST = 1 << 20
"""Densities held at once."""


def modes(
    weights: Float[Tensor, "k *#c"], means: Float[Tensor, "k *#c"], deviations: Float[Tensor, "k *#c"]
) -> Float[Tensor, "..."]:
    r"""Argmax of $\sum_k w_k N(x; m_k, s_k^2)$ for every cell.

    From every mean the fixed-point iteration $x \leftarrow \sum_k r_k m_k / \sum_k r_k$, $r_k = w_k N(x; m_k, s_k^2) /
    s_k^2$, climbs towards a mode (Carreira-Perpinan, 2000); the highest few go on, by Newton's method where that climbs
    higher, and the highest end is returned. A component of deviation 0 is a cell that is known: its mean.
    """
    scales = deviations.clamp_min(torch.finfo(means.dtype).tiny ** 0.25)
    mixture = _Mixture(*(values.unsqueeze(1) for values in (weights.log(), means, scales)))
    starts, heights = zip(*(mixture.started(x) for x in means.split(max(1, MOST // means.numel()))), strict=True)
    highest = torch.cat(heights).topk(min(FEW, len(means)), 0).indices
    ends = mixture.climbed(torch.cat(starts).gather(0, highest))
    return ends.gather(0, mixture.height(ends).argmax(0, keepdim=True))[0]


class _Mixture:
    """Log-weights, means and deviations ``[k, 1, *c]`` of every cell, for candidates ``[n, *c]``."""

    def __init__(self, log_weights: Tensor, means: Tensor, scales: Tensor) -> None:
        self.means, self.precisions = means, scales.square().reciprocal()
        self.log_w = log_weights - scales.log()

    def terms(self, x: Tensor) -> Tensor:
        return self.log_w - 0.5 * (x - self.means).square() * self.precisions

    def height(self, x: Tensor) -> Tensor:
        return self.terms(x).logsumexp(0)

    def started(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(FIRST):
            x = self.fixed_point(x)
        return x, self.height(x)

    def climbed(self, x: Tensor) -> Tensor:
        """Newton's step unless it leads down by more than rounding, else the higher of the fixed-point step and x."""
        slack = x.new_tensor([64 * torch.finfo(x.dtype).eps, 0, 0]).view(-1, *[1] * x.dim())
        for _ in range(STEPS):
            steps = torch.stack([self.newton(x), self.fixed_point(x), x])
            heights = torch.stack([self.height(step) for step in steps]).nan_to_num(-torch.inf) + slack
            x = steps.gather(0, heights.argmax(0, keepdim=True))[0]
        return x

    def fixed_point(self, x: Tensor) -> Tensor:
        share = (self.terms(x) + self.precisions.log()).softmax(0)
        return (share * self.means).sum(0)

    def newton(self, x: Tensor) -> Tensor:
        """One step on log p."""
        share, pull = self.terms(x).softmax(0), (self.means - x) * self.precisions
        slope = (share * pull).sum(0)
        curvature = (share * (pull.square() - self.precisions)).sum(0) - slope.square()
        return x - slope / curvature
