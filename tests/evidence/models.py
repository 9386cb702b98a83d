"""Targets whose log p(x) somebody else knows: scipy in closed form, or a sum that can be written down."""

import math

import numpy as np
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Independent,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
    Uniform,
    biject_to,
    constraints,
)

from taut.evidence import Target
from taut.testing import Known


def pair(mean: float = 0.3, std: float = 1.0, q_deviation: float = 1.3, n: int = 1) -> Known:
    """log p(x, z) = log N(z; mean, deviation), q = N(0, q_deviation): log Z = 0, the digits are in the tests."""
    posterior = Independent(Normal(torch.full((1,), mean), std), 1)
    target = Target(
        lambda x, z: posterior.log_prob(z),
        lambda x: Independent(Normal(torch.zeros(len(x), 1), q_deviation), 1),
        simulate=lambda n: (posterior.sample((n,)), torch.zeros(n, 1)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        z = posterior.sample((n,))
    return Known(target, torch.zeros(n, 1), z, torch.zeros(n))


def bernoulli_mixture() -> Known:
    """Two clusters of four pixels, at every one of the sixteen images there are."""
    means = torch.tensor([[0.9, 0.2, 0.6, 0.5], [0.1, 0.7, 0.3, 0.8]])
    prior = OneHotCategorical(probs=torch.tensor([0.35, 0.65]))
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    truth = [math.log(sum(p * _pixels(m, row) for p, m in zip((0.35, 0.65), means.tolist()))) for row in x.tolist()]  # noqa: B905

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + Bernoulli(probs=z @ means).log_prob(x).sum(-1)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = prior.sample((n,))
        return z, Bernoulli(probs=z @ means).sample()

    q = lambda x: OneHotCategorical(probs=torch.tensor([0.5, 0.5]).expand(len(x), 2))  # noqa: E731
    z = torch.tensor([[1.0, 0.0]]).expand(16, 2)
    return Known(Target(log_joint, q, prior, simulate=simulate), x, z, torch.tensor(truth))


def _pixels(means: list[float], row: list[float]) -> float:
    return math.prod(m if value else 1 - m for m, value in zip(means, row, strict=True))


def curved(std: float = 0.1, shift: float = 0.0) -> Known:
    """x = (z + shift)^2 + noise: two modes; truth by scipy's adaptive quadrature around each."""
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    x = torch.tensor([[1.2345], [0.5], [2.0]])

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + Normal((z + shift) ** 2, std).log_prob(x).sum(-1)

    def density(z: float, value: float) -> float:
        return stats.norm.pdf(z) * stats.norm.pdf(value, (z + shift) ** 2, std)

    def mode(value: float, sign: int) -> float:
        ends = sorted((-shift, sign * 4.0))
        root = sign * value**0.5 - shift
        return integrate.quad(density, *ends, args=(value,), points=[root], epsabs=0, epsrel=1e-12, limit=500)[0]

    truth = [math.log(mode(value, 1) + mode(value, -1)) for value in x[:, 0].tolist()]
    q = lambda x: Independent(Normal(torch.zeros(len(x), 1), 1.5), 1)  # noqa: E731
    return Known(Target(log_joint, q, prior), x, x.sqrt(), torch.tensor(truth))


def boxed() -> Known:
    """z uniform on [-1, 2], x = z + noise: p(x) is a difference of normal distribution functions."""
    prior = Independent(Uniform(torch.tensor([-1.0]), torch.tensor([2.0])), 1)
    x = torch.tensor([[0.1], [-1.2], [1.9], [2.5]])

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + Normal(z, 0.4).log_prob(x).sum(-1)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = prior.sample((n,))
        return z, z + 0.4 * torch.randn_like(z)

    values = x[:, 0].numpy()
    truth = np.log((stats.norm.cdf((2 - values) / 0.4) - stats.norm.cdf((-1 - values) / 0.4)) / 3)
    onto = biject_to(constraints.interval(-1.0, 2.0))

    def q(x: Tensor) -> Independent:
        centre = onto.inv(x.clamp(-0.8, 1.8))
        return Independent(TransformedDistribution(Normal(centre, 0.8), [onto]), 1)

    target = Target(log_joint, q, prior, simulate=simulate)
    return Known(target, x, x.clamp(-0.9, 1.9), torch.as_tensor(truth))


def steep(d: int = 20, hidden: int = 100, size: int = 60) -> Target:
    """Steep tanh networks on both sides: HMC on them is chaotic enough to make nats of one rounding in 10^16."""
    generator = torch.Generator().manual_seed(6)
    first, second, code = (
        scale * torch.randn(shape, generator=generator)
        for shape, scale in (((d, hidden), 1.0), ((hidden, size), 0.5), ((size, d), 0.2))
    )
    prior = Independent(Normal(torch.zeros(d), 1.0), 1)

    def pixels(z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=torch.tanh(z @ first) @ second), 1)

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = prior.sample((n,))
        return z, pixels(z).sample()

    def q(x: Tensor) -> Independent:
        return Independent(Normal(torch.tanh(x @ code), 0.5), 1)

    return Target(lambda x, z: prior.log_prob(z) + pixels(z).log_prob(x), q, prior, simulate=simulate)
