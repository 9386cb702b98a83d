"""Distributions whose draws are a function of standard normal noise: Student's t, and mixtures of Gaussians."""

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from taut.distributions.gaussian import standard_normal


class FromNoise(Distribution):
    """A distribution over vectors that says how its draws are made of standard normal numbers.

    A concrete one implements ``from_noise`` and ``log_prob``, keeps its parameters as tensors, and lists them in
    ``parts`` with the number of axes that each has behind those of the batch.

    Args:
        batch_shape: Shape of the batch.
        dim: Number of coordinates d.
        noise: Precision of the noise: that in which the parameters were made, float32 at least.
        **parts: The parameters.
    """

    arg_constraints: dict[str, Constraint] = {}  # noqa: RUF012 (a property in torch's stub)
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType]
    has_rsample = True
    per_coordinate = 1
    """Standard normal numbers that make one coordinate of a draw."""

    def __init__(self, batch_shape: Sequence[int], dim: int, noise: torch.dtype, **parts: Tensor) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size([dim]), validate_args=False)
        self.noise = noise
        self.parts = tuple(parts)
        vars(self).update(parts)

    @abstractmethod
    def from_noise(self, noise: Float[Tensor, "k *batch n"]) -> Float[Tensor, "k *batch d"]:
        """The draws that this noise makes; the gradient reaches the parameters through them."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._shaped(self.from_noise(self._noise(sample_shape)), sample_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        """Repeat this distribution along further batch axes."""
        axes = len(self.batch_shape)
        parts = {
            name: value.expand(*batch_shape, *value.shape[axes:])
            for name, value in ((name, getattr(self, name)) for name in self.parts)
        }
        made = copy.copy(self)
        FromNoise.__init__(made, batch_shape, self.event_shape[0], self.noise, **parts)
        return made

    def _noise(self, sample_shape: Sequence[int]) -> Tensor:
        like = getattr(self, self.parts[0])
        size = (math.prod(sample_shape), *self.batch_shape, self.per_coordinate * self.event_shape[0])
        return standard_normal(torch.Size(size), self.noise, like.device).to(like.dtype)

    def _shaped(self, draws: Tensor, sample_shape: Sequence[int]) -> Tensor:
        return draws.view(*sample_shape, *draws.shape[1:])


class StudentT(FromNoise):
    r"""Student's t in every coordinate: $\prod_i t_{\nu_i}((z_i - m_i) / s_i) / s_i$.

    A draw is made of two standard normal numbers (Bailey, 1994), and is a smooth function of the degrees of freedom:
    with $r = n_1^2 + n_2^2$, of which $e^{-r/2}$ is uniform,
    $z = m + s\, n_1 \sqrt{\nu (e^{r / \nu} - 1) / r}$. As $\nu$ grows, $z$ becomes $m + s\, n_1$.
    """

    per_coordinate = 2
    df: Tensor
    loc: Tensor
    scale: Tensor

    @classmethod
    def of(cls, df: Tensor, loc: Tensor, scale: Tensor) -> "StudentT":
        """The distribution of these degrees of freedom, locations and scales, all ``[*batch, d]``."""
        noise = torch.promote_types(loc.dtype, torch.float32)
        return cls(loc.shape[:-1], loc.shape[-1], noise, df=df, loc=loc, scale=scale)

    def from_noise(self, noise: Float[Tensor, "k *batch n"]) -> Float[Tensor, "k *batch d"]:
        first, second = noise.to(self.loc.dtype).chunk(2, -1)
        # noise in float32 may be 0 in both, where the ratio has a limit and no value
        r = ((first.square() + second.square()) / self.df).clamp_min(torch.finfo(self.loc.dtype).tiny)
        return self.loc + self.scale * first * (r.expm1() / r).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        half = 0.5 * (self.df + 1)
        constant = (half.lgamma() - (0.5 * self.df).lgamma() - 0.5 * (math.pi * self.df).log() - self.scale.log()).sum(
            -1
        )
        squares = ((value - self.loc) / self.scale).square()
        return constant - (half * (squares / self.df).log1p()).sum(-1)

    @property
    def mean(self) -> Tensor:
        """The location; there is a mean above one degree of freedom."""
        return self.loc.masked_fill(self.df <= 1, torch.nan)

    @property
    def variance(self) -> Tensor:
        r"""$s^2 \nu / (\nu - 2)$ above two degrees of freedom, infinite below."""
        return torch.where(self.df > 2, self.scale.square() * self.df / (self.df - 2), torch.inf)


class GaussianMixture(FromNoise):
    r"""$\frac1S \sum_s N(z; m_s, \mathrm{diag}\, s_s^2)$: S Gaussians of equal weight.

    ``rsample`` draws from the components in turn, beginning with a random one: every draw alone has this density, and K
    draws, K a multiple of S, hold all components equally often (stratified draws; the balance heuristic of Veach &
    Guibas, 1995). As the weights are no parameters, the gradient through the draws is that of any mean over the draws.
    ``sample`` draws independently, component included.
    """

    loc: Tensor
    scale: Tensor

    @classmethod
    def of(cls, loc: Tensor, scale: Tensor) -> "GaussianMixture":
        """The mixture of the Gaussians of these means and standard deviations, both ``[*batch, S, d]``."""
        noise = torch.promote_types(loc.dtype, torch.float32)
        return cls(loc.shape[:-2], loc.shape[-1], noise, loc=loc, scale=scale)

    @property
    def components(self) -> int:
        """Number of components S."""
        return self.loc.shape[-2]

    def from_noise(self, noise: Float[Tensor, "k *batch d"]) -> Float[Tensor, "k *batch d"]:
        """The draws of components 0, 1, ..., S - 1, 0, ... that this noise makes."""
        return self._drawn(noise, self._in_turn(len(noise), 0))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        noise = self._noise(sample_shape)
        # a single component takes no random number, so that its draws are those of one Gaussian
        start = 0 if self.components == 1 else self._random((1, *self.batch_shape))
        return self._shaped(self._drawn(noise, self._in_turn(len(noise), start)), sample_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Independent draws."""
        with torch.no_grad():
            noise = self._noise(sample_shape)
            if self.components == 1:
                return self._shaped(self.from_noise(noise), sample_shape)
            return self._shaped(self._drawn(noise, self._random((len(noise), *self.batch_shape))), sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        normalised = (value.unsqueeze(-2) - self.loc) / self.scale
        constant = self.scale.log().sum(-1) + 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        log_each = -0.5 * normalised.square().sum(-1) - constant
        return log_each.logsumexp(-1) - math.log(self.components)

    @property
    def mean(self) -> Tensor:
        """The mean of the means."""
        return self.loc.mean(-2)

    @property
    def variance(self) -> Tensor:
        """The mean of the variances and the variance of the means."""
        return self.scale.square().mean(-2) + self.loc.var(-2, correction=0)

    def _random(self, size: Sequence[int]) -> Int[Tensor, "k *batch"]:
        return torch.randint(self.components, tuple(size), device=self.loc.device)

    def _in_turn(self, k: int, start: Tensor | int) -> Int[Tensor, "k *batch"]:
        order = torch.arange(k, device=self.loc.device).view(-1, *[1] * len(self.batch_shape))
        return ((order + start) % self.components).expand(k, *self.batch_shape)

    def _drawn(self, noise: Tensor, component: Int[Tensor, "k *batch"]) -> Tensor:
        index = component[..., None, None].expand(*component.shape, 1, self.loc.shape[-1])
        loc, scale = (
            value.expand(len(noise), *value.shape).gather(-2, index).squeeze(-2) for value in (self.loc, self.scale)
        )
        return torch.addcmul(loc, noise.to(loc.dtype), scale)
