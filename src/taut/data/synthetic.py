"""Numbers drawn from a known density, so that the truth is known."""

from functools import cached_property
from typing import Any, ClassVar, Literal, cast, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Poisson

from taut.data.base import Data, Splits, cut
from taut.errors import UserError
from taut.functional.seeding import generator

Parameters = tuple[np.ndarray, np.ndarray, np.ndarray]


@final
class Synthetic(Data):
    r"""Rows drawn from a density whose parameters are drawn once from ``split_seed``.

    ``mixture``: $\sum_c w_c N(x; m_c, S_c)$ with full covariances. ``linear_gaussian``: $x = W z + m + \sigma
    e$ with $z, e$ standard normal, so $x \sim N(m, W W^\top + \sigma^2 I)$: probabilistic PCA (Tipping and
    Bishop 1999). ``counts``: $\sum_c w_c \prod_i \mathrm{Poisson}(x_i; \lambda_{ci})$. All mathematics in
    float64; three fifths of the rows train, one fifth validates, one fifth tests.

    Args:
        kind: ``mixture``, ``linear_gaussian`` or ``counts``.
        n: Rows in all.
        dim: Columns.
        components: Components of the mixture, of Gaussians or of counts.
        latent: Coordinates of z.
        noise: Standard deviation sigma.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "synthetic"

    def __init__(
        self,
        *,
        kind: Literal["mixture", "linear_gaussian", "counts"] = "mixture",
        n: int = 1000,
        dim: int = 2,
        components: int = 3,
        latent: int = 1,
        noise: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if kind not in ("mixture", "linear_gaussian", "counts"):
            raise UserError(f"data.kind={kind} is unknown: choose mixture, linear_gaussian or counts.")
        if min(dim, components, latent) < 1 or n < 5 or not noise > 0:
            raise UserError(
                f"data.n={n} must be 5 or more, data.dim={dim}, data.components={components} and "
                f"data.latent={latent} 1 or more, and data.noise={noise} above 0."
            )
        self.kind, self.n, self.dim = kind, n, dim
        self.components, self.latent, self.noise = components, latent, noise

    @cached_property
    def truth(self) -> MixtureSameFamily:
        """The density of the rows with its parameters, float64; one component if linear Gaussian."""
        rng = generator(self.split_seed, "source", 0)
        if self.kind == "counts":
            weights, rates = (torch.from_numpy(value) for value in _counts(rng, self))
            return MixtureSameFamily(Categorical(weights), Independent(Poisson(rates), 1))
        draw = _mixture if self.kind == "mixture" else _linear_gaussian
        weights, means, covariances = (torch.from_numpy(value) for value in draw(rng, self))
        return MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))

    def log_px(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """The true log-density of some rows, nats, float64."""
        return self.truth.log_prob(x.double())

    def load(self) -> Splits:
        # a stream of its own: rows do not depend on how many numbers the parameters took
        rng = generator(self.split_seed, "source", 1)
        weights = self.truth.mixture_distribution.probs.numpy()
        c = torch.from_numpy(rng.choice(len(weights), size=self.n, p=weights))
        if self.kind == "counts":
            rates = self.truth.component_distribution.mean[c].numpy()
            rows = torch.from_numpy(rng.poisson(rates).astype(np.float64))
        else:
            rows = self._gaussian_rows(rng, c)
        return cut(rows, val=self.n // 5, test=self.n // 5, seed=self.split_seed)

    def _gaussian_rows(self, rng: np.random.Generator, c: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        noise = torch.from_numpy(rng.standard_normal((self.n, self.dim, 1)))
        gaussians = cast(MultivariateNormal, self.truth.component_distribution)
        return gaussians.loc[c] + (gaussians.scale_tril[c] @ noise).squeeze(-1)


def _mixture(rng: np.random.Generator, data: Synthetic) -> Parameters:
    """Components about three standard deviations apart, weights seldom small."""
    weights = rng.dirichlet(np.full(data.components, 5.0))
    means = 3 * rng.standard_normal((data.components, data.dim))
    factors = rng.standard_normal((data.components, data.dim, data.dim))
    # a floor, because the product of random factors can be almost singular
    return weights, means, factors @ factors.swapaxes(1, 2) / data.dim + 0.1 * np.eye(data.dim)


def _linear_gaussian(rng: np.random.Generator, data: Synthetic) -> Parameters:
    mean = rng.standard_normal((1, data.dim))
    weight = rng.standard_normal((data.dim, data.latent))
    return np.ones(1), mean, (weight @ weight.T + data.noise**2 * np.eye(data.dim))[None]


def _counts(rng: np.random.Generator, data: Synthetic) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and rates that differ by a factor of e between components: a median of 5."""
    weights = rng.dirichlet(np.full(data.components, 5.0))
    return weights, 5 * np.exp(rng.standard_normal((data.components, data.dim)))
