r"""Cells that take one of L levels: categories, and logistic densities whose mass is collected by levels.

A level v = 0, ..., L - 1 stands for the number $x = (v + \text{offset}) / \text{divisor}$, as a grey level for a pixel
in [0, 1]; distributions are of x.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Levels:
    r"""What numbers x the levels v stand for: $x = (v + \text{offset}) / \text{divisor}$.

    Args:
        count: Number of levels L; of columns that differ in it, the largest.
        divisor: The divisor.
        offset: The offset.
    """

    count: int
    divisor: float = 1.0
    offset: float = 0.0

    def encode(self, x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The levels of some numbers, the nearest where one is between two."""
        return (x * self.divisor - self.offset).round()

    def decode(self, v: Tensor) -> Tensor:
        """The numbers of some levels."""
        return (v + self.offset) / self.divisor


class LevelCells(Distribution):
    """Cells that take one of L levels, whose moments are sums over the levels.

    Args:
        levels: The levels.
        batch_shape: Shape of the cells.
    """

    def __init__(self, levels: Levels, batch_shape: Sequence[int]) -> None:
        self.levels = levels
        super().__init__(torch.Size(batch_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.levels.decode(self._moments[0])

    @property
    def variance(self) -> Tensor:
        mean, square = self._moments
        # rounding may leave less than nothing
        return (square - mean.square()).clamp_min(0.0) / self.levels.divisor**2

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """E v and E v^2."""
        raise NotImplementedError


class Categories(LevelCells):
    """Levels by their logits.

    Args:
        logits: Of each cell and level, normalised or not.
        levels: The levels.
    """

    def __init__(self, logits: Float[Tensor, "*cells l"], levels: Levels) -> None:
        self.log_p = logits.log_softmax(-1)
        super().__init__(levels, logits.shape[:-1])

    def log_prob(self, value: Tensor) -> Tensor:
        v = self.levels.encode(value).clamp(0, self.levels.count - 1).long()
        shape = torch.broadcast_shapes(v.shape, self.batch_shape)
        log_p = self.log_p.expand(*shape, self.levels.count)
        return log_p.gather(-1, v.expand(shape).unsqueeze(-1)).squeeze(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            drawn = Categorical(logits=self.log_p, validate_args=False).sample(torch.Size(sample_shape))
            return self.levels.decode(drawn.to(self.log_p.dtype))

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        p, v = self.log_p.exp(), torch.arange(self.levels.count, device=self.log_p.device, dtype=self.log_p.dtype)
        return p @ v, p @ v.square()


class DiscretisedLogistic(LevelCells):
    r"""A mixture of logistic densities in units of a level, whose mass in $v \pm \frac12$ is that of level v.

    The lowest and the highest level take the tails, so that the masses sum to 1 (Kingma et al., 2016; Salimans et al.,
    2017). With $a, b = (v \pm \frac12 - \mu) / s$,

    $$\log (\sigma(a) - \sigma(b)) = \log \sigma(a) + \log \sigma(-b) + \log(1 - e^{-1 / s}),$$

    which loses no digit where the mass is small.

    Args:
        log_weights: Of the components, normalised, ``[m, *cells]``.
        mean: Their means, in levels.
        scale: Their scales, in levels.
        highest: The highest level of each cell.
        levels: The levels.
    """

    def __init__(
        self,
        log_weights: Float[Tensor, "m *cells"],
        mean: Float[Tensor, "m *cells"],
        scale: Float[Tensor, "m *cells"],
        highest: Int[Tensor, "*x"],
        levels: Levels,
    ) -> None:
        self.log_weights, self.mu, self.scale, self.highest = log_weights, mean, scale, highest
        super().__init__(levels, mean.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        v = self.levels.encode(value).to(self.mu.dtype)
        above = torch.where(v >= self.highest, 0.0, logsigmoid((v + 0.5 - self.mu) / self.scale))
        below = torch.where(v <= 0, 0.0, logsigmoid((self.mu - v + 0.5) / self.scale))
        inner = (v > 0) & (v < self.highest)
        width = torch.where(inner, torch.log(-torch.expm1(-1 / self.scale)), 0.0)
        return (self.log_weights + above + below + width).logsumexp(0)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            # the component by Gumbel's trick, which needs no axis of categories at the end
            shape = torch.Size((*sample_shape, *self.log_weights.shape))
            chosen = (self.log_weights - torch.log(-torch.log(self._uniform(shape)))).argmax(len(sample_shape))
            chosen = chosen.unsqueeze(len(sample_shape))
            mean, scale = (
                part.expand(shape).gather(len(sample_shape), chosen).squeeze(len(sample_shape))
                for part in (self.mu, self.scale)
            )
            drawn = (mean + scale * self._uniform(mean.shape).logit()).round().clamp_min(0)
            return self.levels.decode(torch.minimum(drawn, self.highest.to(drawn)))

    def _uniform(self, shape: torch.Size) -> Tensor:
        noise = torch.rand(shape, dtype=self.mu.dtype, device=self.mu.device)
        # neither 0 nor 1, whose logarithms are infinite
        return noise.clamp(torch.finfo(noise.dtype).tiny, 1 - torch.finfo(noise.dtype).eps)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        r"""$E v = \sum_{j \ge 1} P(v \ge j)$ and $E v^2 = \sum_{j \ge 1} (2 j - 1) P(v \ge j)$."""
        weights, mean = self.log_weights.exp(), torch.zeros(self.batch_shape).to(self.mu)
        square = torch.zeros_like(mean)
        # level by level: all at once would take as many times the memory
        for j in range(1, self.levels.count):
            tail = (weights * ((self.mu - j + 0.5) / self.scale).sigmoid()).sum(0)
            tail = torch.where(j <= self.highest, tail, 0.0)
            mean, square = mean + tail, square + (2 * j - 1) * tail
        return mean, square
