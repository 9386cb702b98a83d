"""Completions of data with missing cells: the mean, the most probable cells, and draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, OneHotCategorical

from taut.distributions.cells import MixedColumns
from taut.functional import seeding
from taut.functional.bounds import effective_sample_size, normalised_weights
from taut.functional.missing import observed
from taut.functional.precision import exact_arithmetic
from taut.functional.resampling import pick
from taut.functional.sampling import NoiseKeys, Proposal, chunk_size_on
from taut.functional.types import LogWeights, PerDatum
from taut.model import exact_inference
from taut.model.draws import weighted_draws
from taut.model.joint import Joint

Fill = Literal["mean", "most_probable", "draw"]

MAX_KERNELS = 128
"""Draws of z whose mixture stands for the density of a cell where its most probable value is sought."""


@dataclass(frozen=True)
class Latents:
    r"""$p(z \mid x_{obs}) \approx \sum_k \tilde w_k \delta_{z_k}$ for each datum.

    Args:
        z: ``[k, b, *z]``.
        log_w: Log-weights, nats.
        exact: Whether this is the posterior itself: every category with its probability, or draws of equal weight.
        centre: $E[z \mid x_{obs}]$ where the posterior is known and the mean of x is linear in z.
        gaussian: Whether x given the observed cells is one Gaussian, so that its mean is its mode.
    """

    z: Float[Tensor, "k b *z"]
    log_w: LogWeights
    exact: bool
    centre: Float[Tensor, "b *z"] | None = None
    gaussian: bool = False

    @classmethod
    def equal(cls, z: Float[Tensor, "k b *z"]) -> "Latents":
        """Draws of the posterior, all of one weight."""
        return cls(z, torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device), exact=True)

    def at(self, i: int) -> "Latents":
        """Draws of datum i."""
        return Latents(self.z[:, i : i + 1], self.log_w[:, i : i + 1], self.exact)

    @property
    def weights(self) -> LogWeights:
        """The normalised weights."""
        return normalised_weights(self.log_w)

    @property
    def ess(self) -> PerDatum:
        """Effective number of draws; NaN where the posterior is exact and nothing is lost."""
        return torch.full_like(self.log_w[0], torch.nan) if self.exact else effective_sample_size(self.log_w)

    def thinned(self) -> "Latents":
        """At most ``MAX_KERNELS`` draws of each datum, evenly among the weights where there are more."""
        if len(self.z) <= MAX_KERNELS:
            return self
        even = (torch.arange(MAX_KERNELS, dtype=torch.float64, device=self.z.device) + 0.5) / MAX_KERNELS
        return Latents.equal(torch.cat([self.at(i).resampled(even) for i in range(self.z.shape[1])], 1))

    def resampled(self, uniform: Float[Tensor, " n"]) -> Float[Tensor, "n 1 *z"]:
        """The z of one datum that each uniform number picks (sampling-importance-resampling; Rubin, 1987)."""
        return self.z[pick(self.weights[:, 0], uniform)]


def latents(joint: Joint, proposal: Proposal, x: Float[Tensor, "b *x"], keys: NoiseKeys, k: int, draws: int) -> Latents:
    """Every category, draws of a known posterior, or importance samples: the best of these that the model admits.

    Use it inside :func:`taut.functional.seeding.forked`. The importance samples are those of ``evidence=importance``.

    Args:
        joint: The model.
        proposal: q, for a model whose posterior is not known.
        x: Data with missing cells.
        keys: What the noise is keyed by.
        k: Number of importance samples K.
        draws: Number of independent draws that are wanted of a known posterior.
    """
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        z = prior.enumerate_support().unsqueeze(1).expand(-1, len(x), -1)
        return Latents(z, joint.log_prob(x, z).double(), exact=True)
    if exact_inference.tractable(joint):
        n = max(draws, MAX_KERNELS)
        z, log_w = weighted_draws(None, lambda rows: exact_inference.posterior(joint, x[rows]), x, keys, n)
        posterior = exact_inference.posterior(joint, x)
        return Latents(z, log_w, True, posterior.mean, isinstance(posterior, MultivariateNormal))
    return Latents(*weighted_draws(joint.log_prob, proposal, x, keys, k), exact=False)


@dataclass(frozen=True)
class Completions:
    r"""Three answers to what is missing, never to be confused; observed cells are as they were.

    Args:
        mean: $E[x \mid x_{obs}]$: the least squared error; a grey image where pixels are binary.
        most_probable: Of every cell by itself: the least error rate of binary pixels; not the most probable image. For
            a VAE of real numbers the mode of a kernel density estimate, for counts the whole number next to it.
        draws: Draws of $p(x_{mis} \mid x_{obs})$: what images look like, ``[m, b, *x]``. Independent where the
            posterior of z is exact; elsewhere resampled from the same K draws of z, which they share where few count.
        ess: Effective number of the draws of z behind them; NaN where the posterior is exact.
    """

    mean: Float[Tensor, "b *x"]
    most_probable: Float[Tensor, "b *x"]
    draws: Float[Tensor, "m b *x"]
    ess: PerDatum

    def select(self, order: Tensor) -> "Completions":
        """Some of the data, or all in another order."""
        return Completions(self.mean[order], self.most_probable[order], self.draws[:, order], self.ess[order])

    def cpu(self) -> "Completions":
        """The completions in main memory."""
        return Completions(*(values.cpu() for values in vars(self).values()))

    @staticmethod
    def cat(parts: Sequence["Completions"]) -> "Completions":
        """The completions of further data."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Completions(*(torch.cat(c, axis) for c, axis in zip(columns, (0, 0, 1, 0), strict=True)))


def complete(
    joint: Joint, proposal: Proposal, x: Float[Tensor, "b *x"], keys: NoiseKeys, *, k: int = 1000, draws: int = 10
) -> Completions:
    r"""Complete each datum from $p(x_{mis} \mid x_{obs}) = \int p(x_{mis} \mid z, x_{obs})\, p(z \mid x_{obs})\, dz$.

    The posterior of z is exact for a category and for a linear-Gaussian model, and self-normalised importance sampling
    with K draws elsewhere, whose bias vanishes like 1/K: look at ``ess``. The value of a missing cell cannot matter: it
    is NaN. Nothing missing gives x itself, nothing observed the prior's answer.

    Args:
        joint: The model.
        proposal: $q(z \mid x_{obs})$ of some rows of the batch; not used where the posterior is exact.
        x: Data, NaN where a cell is missing.
        keys: What the noise is keyed by; the completions of a datum do not depend on the others.
        k: Number of importance samples K.
        draws: Number of draws m.
    """
    with exact_arithmetic(x.device), seeding.forked(x.device):
        posterior = latents(joint, proposal, x, keys, k, draws)
        mean = _mean(joint, posterior, x)
        sampled = _draws(joint, posterior, x, keys.for_purpose("completion"), draws)
        return Completions(mean, _most_probable(joint, posterior, x, mean), sampled, posterior.ess)


def fill_in(
    joint: Joint, proposal: Proposal, x: Float[Tensor, "b *x"], keys: NoiseKeys, fill: Fill, *, k: int = 1000
) -> Float[Tensor, "b *x"]:
    """One of the answers of :func:`complete`, without the cost of the others; of draws, one."""
    if fill == "draw":
        return sample(joint, proposal, x, keys, 1, k=k)[0]
    with exact_arithmetic(x.device), seeding.forked(x.device):
        posterior = latents(joint, proposal, x, keys, k, 1)
        mean = _mean(joint, posterior, x)
        return mean if fill == "mean" else _most_probable(joint, posterior, x, mean)


def sample(
    joint: Joint, proposal: Proposal, x: Float[Tensor, "b *x"], keys: NoiseKeys, draws: int, *, k: int = 1000
) -> Float[Tensor, "m b *x"]:
    """The draws of :func:`complete`, without the cost of its other answers."""
    with exact_arithmetic(x.device), seeding.forked(x.device):
        posterior = latents(joint, proposal, x, keys, k, draws)
        return _draws(joint, posterior, x, keys.for_purpose("completion"), draws)


def _mean(joint: Joint, posterior: Latents, x: Tensor) -> Float[Tensor, "b *x"]:
    """The mean given z, averaged over z: less noise than the mean of draws (Rao-Blackwell)."""
    if posterior.centre is not None:
        return joint.likelihood(posterior.centre.unsqueeze(0)).given(x).mean[0]
    # in float64, because the chunks of K samples are added one by one
    mean, weights = x.new_zeros(x.shape, dtype=torch.float64), posterior.weights
    for rows, samples in _chunks(posterior, x):
        given = joint.likelihood(posterior.z[samples, rows]).given(x[rows]).mean
        mean[rows] += torch.einsum("kb,kb...->b...", weights[samples, rows].to(given), given)
    return torch.where(observed(x), x, mean.to(x))


def _chunks(posterior: Latents, x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and samples, at most as many as are scored at once."""
    k, chunk_size = len(posterior.z), chunk_size_on(x.device)
    size = max(1, chunk_size // k)
    for first in range(0, len(x), size):
        for start in range(0, k, chunk_size):
            yield slice(first, min(first + size, len(x))), slice(start, min(start + chunk_size, k))


def _draws(joint: Joint, posterior: Latents, x: Tensor, keys: NoiseKeys, count: int) -> Float[Tensor, "m b *x"]:
    """Z by its weight, then x given that z: one datum after another, each with its own noise."""
    out = x.new_empty(count, *x.shape)
    for i, seed in enumerate(keys.seeds()):
        seeding.seed(seed, x.device)
        uniform = torch.rand(count, dtype=torch.float64, device=x.device)
        z = posterior.at(i).resampled(uniform) if posterior.centre is None else posterior.z[:count, i : i + 1]
        out[:, i] = joint.likelihood(z).given(x[i : i + 1]).sample()[:, 0]
    return out


def _most_probable(joint: Joint, posterior: Latents, x: Tensor, mean: Tensor) -> Float[Tensor, "b *x"]:
    if joint.likelihood.binary:
        return torch.where(observed(x), x, (mean > 0.5).to(x))
    if posterior.gaussian:
        return mean
    # thinned, since a mode costs K densities for each of K starts
    out, kernels = torch.empty_like(x), posterior.thinned()
    for rows, _ in _chunks(kernels, x):
        cells = joint.likelihood(kernels.z[:, rows])
        out[rows] = _likeliest_cells(joint, joint.likelihood, cells, kernels.weights[:, rows].to(x), x[rows])
    return torch.where(observed(x), x, out)


def _likeliest_cells(
    joint: Joint, likelihood: Any, cells: Any, weights: Float[Tensor, "k b"], x: Float[Tensor, "b *x"]
) -> Tensor:
    """The most probable value of every cell under a weighted mean of some distributions."""
    if isinstance(cells, MixedColumns):
        parts = zip(likelihood.parts, cells.parts, cells.columns, strict=True)
        found = [_likeliest_cells(joint, own, part, weights, x[:, columns]) for own, part, columns in parts]
        return torch.cat(found, -1)[:, cells.order].to(x)
    if likelihood.values is not None:
        return _likeliest_levels(cells.base_dist, weights, likelihood.values.to(x))
    given = cells.given(x)
    mean, std = given.mean, given.stddev
    each = weights.view(*weights.shape, *[1] * (x.dim() - 1)).expand_as(mean)
    highest = modes(each, mean, std if joint.prior.discrete else _smoothed(mean, std))
    # of counts the nearest: their masses have no end to compare
    return highest.round().clamp_min(0) if likelihood.is_mass else highest


def _likeliest_levels(cells: Distribution, weights: Float[Tensor, "k b"], values: Float[Tensor, " l"]) -> Tensor:
    """Of finitely many values the one with the largest mass, for every cell."""
    best, highest = values[0], None
    for value in values:
        mass = torch.einsum("kb,kb...->b...", weights, cells.log_prob(value).exp().to(weights))
        best = value.expand_as(mass) if highest is None else torch.where(mass > highest, value, best)
        highest = mass if highest is None else torch.maximum(mass, highest)
    return best


def _smoothed(means: Float[Tensor, "k b *x"], stds: Float[Tensor, "k b *x"]) -> Float[Tensor, "k b *x"]:
    """Deviations widened by Silverman's bandwidth (1986), or the highest of k narrow peaks would be one at random."""
    bandwidth = 1.06 * means.std(0) * len(means) ** -0.2
    return (stds.square() + bandwidth.square()).sqrt()


FIRST = 4
"""Steps from every component mean, before the highest are chosen."""

FEW = 3
"""Number of those that are climbed from."""

STEPS = 10
"""Steps to the top; Newton's converge quadratically."""

MOST = 1 << 20
"""Densities held at once."""


def modes(
    weights: Float[Tensor, "k *#c"], means: Float[Tensor, "k *#c"], stds: Float[Tensor, "k *#c"]
) -> Float[Tensor, "..."]:
    r"""Argmax of $\sum_k w_k N(x; m_k, s_k^2)$ for every cell.

    From every mean the fixed-point iteration $x \leftarrow \sum_k r_k m_k / \sum_k r_k$, $r_k = w_k N(x; m_k, s_k^2) /
    s_k^2$, climbs towards a mode (Carreira-Perpinan, 2000); the highest few go on, by Newton's method where that climbs
    higher, and the highest end is returned. A component of deviation 0 is a cell that is known: its mean.
    """
    # so that the square of a precision is finite: Newton's step takes it
    scales = stds.clamp_min(torch.finfo(means.dtype).tiny ** 0.25)
    mixture = _Mixture(*(values.unsqueeze(1) for values in (weights.log(), means, scales)))
    # in parts, because every start is held against every component
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
            # NaN: Newton's step divides by a curvature that may be 0
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
