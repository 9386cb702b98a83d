"""A look-up table of Gaussians."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut import moments
from taut.errors import UserError
from taut.gaussian import cholesky, log_densities
from taut.holes import mean_filled, patterns
from taut.likelihood.base import Likelihood
from taut.partial import Partial

Covariance = Literal["spherical", "diagonal", "full"]


class ComponentNormal(Distribution):
    r"""$N(x; m_c, L_c L_c^\top)$ with c the position of the one in z: batch ``z.shape[:-1]``, event ``x_shape``.

    All C densities of each x are computed once and looked up, however many z ask for them.
    """

    has_rsample = False

    def __init__(self, z: Float[Tensor, "*batch c"], means: Tensor, scale_tril: Tensor, x_shape: torch.Size) -> None:
        self.z, self.means, self.scale_tril = z, means, scale_tril
        super().__init__(z.shape[:-1], x_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return (self.z @ self.means).unflatten(-1, self.event_shape)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            shape = (*sample_shape, *self.z.shape[:-1], self.means.shape[-1])
            noise = torch.randn(shape, dtype=self.means.dtype, device=self.means.device)
            deviation = torch.einsum("...c,cij,...j->...i", self.z, self.scale_tril, noise)
            return (self.z @ self.means + deviation).unflatten(-1, self.event_shape)

    def log_prob(self, value: Float[Tensor, "..."]) -> Tensor:
        rows = value.flatten(-len(self.event_shape))
        table = self.partial_table(rows) if rows.isnan().any() else log_densities(rows, self.means, self.scale_tril)
        chosen = self.z.argmax(-1)
        shape = torch.broadcast_shapes(table.shape[:-1], chosen.shape)
        table = table.expand(*shape, table.shape[-1])
        return table.gather(-1, chosen.expand(shape).unsqueeze(-1)).squeeze(-1)

    def partial_table(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        """The same of the observed coordinates of each x."""
        rows = x.flatten(0, -2)
        table = rows.new_empty(len(rows), len(self.means))
        for part in self.parts(rows):
            table[part.pattern.rows] = part.log_prob(rows)
        return table.unflatten(0, x.shape[:-1])

    def parts(self, x: Float[Tensor, "n d"]) -> Iterator[Partial]:
        """The Gaussians as each mask among the data cuts them."""
        covariances = self.scale_tril @ self.scale_tril.mT
        return (Partial.of(pattern, self.means, covariances) for pattern in patterns(x))

    def given(self, x: Float[Tensor, "b *x"]) -> "GivenComponent":
        """The completions of data with holes, for every z."""
        return GivenComponent(self, x)


class GivenComponent:
    r"""$p(x \mid z, x_{obs})$ of Gaussians with covariances: the hidden cells follow from the observed ones.

    Args:
        distribution: $p(x \mid z)$, batch ``(k, b)``.
        x: Data with holes, ``[b, *x]``.
    """

    def __init__(self, distribution: ComponentNormal, x: Float[Tensor, "b *x"]) -> None:
        self.distribution, self.x = distribution, x
        rows = x.flatten(1)
        self.means = x.new_zeros(len(x), *distribution.means.shape)
        for part in distribution.parts(rows):
            self.means[part.pattern.rows] = part.mean(rows)

    @cached_property
    def factors(self) -> Float[Tensor, "b c d d"]:
        """Factors of the covariances of the hidden cells; large, so made only when asked for."""
        factors = self.x.new_zeros(len(self.x), *self.distribution.scale_tril.shape)
        for part in self.distribution.parts(self.x.flatten(1)):
            factors[part.pattern.rows] = part.hidden_factor.unsqueeze(1)
        return factors

    @property
    def mean(self) -> Float[Tensor, "k b *x"]:
        """Mean of every cell."""
        return torch.einsum("...bc,bcd->...bd", self.distribution.z, self.means).unflatten(-1, self.x.shape[1:])

    @property
    def stddev(self) -> Float[Tensor, "k b *x"]:
        """Standard deviation of every cell, 0 where it is observed."""
        deviations = self.factors.square().sum(-1).sqrt()
        return torch.einsum("...bc,bcd->...bd", self.distribution.z, deviations).unflatten(-1, self.x.shape[1:])

    def sample(self) -> Float[Tensor, "k b *x"]:
        """One completion for every z."""
        z = self.distribution.z
        shape = (*z.shape[:-1], self.means.shape[-1])
        noise = torch.randn(shape, dtype=self.means.dtype, device=self.means.device)
        deviation = torch.einsum("...bc,bcij,...bj->...bi", z, self.factors, noise)
        return self.mean + deviation.unflatten(-1, self.x.shape[1:])


class Component(Likelihood):
    r"""$p(x \mid z = c) = N(x; m_c, \Sigma_c)$: the look-up table of a mixture of Gaussians.

    The parameters are relative, so that one step of a gradient method means the same in every unit: $m = \bar x + u
    \odot o$ with the mean and standard deviation of the training rows, and $L = \mathrm{diag}(s) (I + A)$ with A
    strictly lower. In EM, eigenvalues (variances) below the floor are raised to it, which is the exact maximum under
    that constraint, so the likelihood stays bounded and still never decreases. A component that explains a smaller
    share of the rows than ``min_share`` keeps its last mean and covariance.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of components C, the length of the one-hot z.
        covariance: ``spherical`` (one variance), ``diagonal`` or ``full``.
        min_variance: Floor of every variance (eigenvalue), in squared units of x.
        min_share: Expected share of the rows under which EM leaves a component alone.
    """

    of_categories = True
    centre: Tensor
    unit: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        *,
        covariance: Covariance = "full",
        min_variance: float = 1e-6,
        min_share: float = 1e-6,
    ) -> None:
        super().__init__()
        if covariance not in ("spherical", "diagonal", "full"):
            raise UserError(f"likelihood.covariance={covariance!r} is not known; choose spherical, diagonal or full.")
        size = prod(x_shape)
        self.x_shape = tuple(x_shape)
        self.covariance = covariance
        self.min_variance, self.min_share = min_variance, min_share
        self.offsets = nn.Parameter(torch.randn(latent, size))
        self.log_scales = nn.Parameter(torch.zeros(latent, 1 if covariance == "spherical" else size))
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("unit", torch.ones(size))
        if covariance == "full":
            self.lower = nn.Parameter(torch.zeros(latent, size, size))

    @property
    def means(self) -> Float[Tensor, "c d"]:
        """The means $m_c$."""
        return self.centre + self.unit * self.offsets

    def scale_tril(self) -> Float[Tensor, "c d d"]:
        """Cholesky factors of the covariances; the diagonal never falls below the root of the floor."""
        scales = self.log_scales.exp().clamp_min(self.min_variance**0.5).expand_as(self.offsets)
        diagonal = torch.diag_embed(scales)
        return diagonal + scales.unsqueeze(-1) * self.lower.tril(-1) if self.covariance == "full" else diagonal

    def covariances(self) -> Float[Tensor, "c d d"]:
        r"""$\Sigma_c$, in squared units of x."""
        factor = self.scale_tril()
        return factor @ factor.mT

    def forward(self, z: Float[Tensor, "*batch c"]) -> ComponentNormal:
        return ComponentNormal(z, self.means, self.scale_tril(), torch.Size(self.x_shape))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        """Means by k-means++ (Arthur & Vassilvitskii, 2007), every covariance that of its nearest rows, pooled."""
        from sklearn.cluster import kmeans_plusplus

        rows = mean_filled(x.flatten(1))
        if len(rows) < len(self.offsets):
            raise UserError(
                f"model.components={len(self.offsets)} is more than the {len(rows)} training rows; choose fewer "
                f"components."
            )
        self.centre.copy_(rows.mean(0))
        self.unit.copy_(rows.std(0, correction=0).clamp_min(self.min_variance**0.5))
        scaled = (rows - self.centre) / self.unit
        seed = int(torch.randint(2**31, ()))
        seeds, _ = kmeans_plusplus(scaled.double().cpu().numpy(), len(self.offsets), random_state=seed)
        self.offsets.copy_(torch.as_tensor(seeds))
        nearest = torch.cdist(scaled, self.offsets).argmin(-1)
        r = torch.nn.functional.one_hot(nearest, len(self.offsets)).to(rows)
        centred = rows - r @ (r.mT @ rows / r.sum(0).clamp_min(1).unsqueeze(-1))
        pooled = centred.mT @ centred / len(rows)
        self._set_covariances(slice(None), pooled.expand(len(self.offsets), -1, -1))

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> dict[str, Tensor]:
        """Sums of r, r x and r x x' per component, with x relative to the mean of the training rows."""
        r = posterior.mean  # of a one-hot z: the responsibilities [b, C]
        rows = x.flatten(1) - self.centre
        if rows.isnan().any():
            return {"counts": r.sum(0), **self._expected(rows, r)}
        weighted = r.mT.unsqueeze(-1) * rows  # [C, b, D]
        full = self.covariance == "full"
        second = weighted.mT @ rows if full else torch.diag_embed((weighted * rows).sum(1))
        return {"counts": r.sum(0), "first": weighted.sum(1), "second": second}

    def has_moments(self, x: Float[Tensor, "b *x"]) -> bool:
        """Whether ``expect`` is for these data: none is missing, and there are not too many coordinates."""
        return moments.pays(prod(self.x_shape), self.covariance == "full") and not x.isnan().any()

    def expect(
        self, x: Float[Tensor, "b *x"], log_weights: Float[Tensor, " c"]
    ) -> tuple[Float[Tensor, " b"], dict[str, Tensor]]:
        r"""$\log p(x)$ of the mixture in nats, and the ``statistics`` under its posterior, in one pass over x.

        Args:
            x: Data without holes.
            log_weights: $\log \pi_c$.
        """
        rows, full = (x.flatten(1) - self.centre).double(), self.covariance == "full"
        means, factors = (self.means - self.centre).double(), self.scale_tril().double()
        log_px, sums = moments.expect(moments.Gaussians(log_weights.double(), means, factors, full), rows)
        statistics = moments.unpacked(sums, rows.shape[1], full)
        return log_px.to(x), {name: value.to(x) for name, value in statistics.items()}

    def _expected(self, rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"]) -> dict[str, Tensor]:
        """The same with the holes filled in expectation, under each component (Ghahramani & Jordan, 1994)."""
        covariances, means = self.covariances(), self.means - self.centre
        first, second = torch.zeros_like(means), torch.zeros_like(covariances)
        for pattern in patterns(rows):
            part = Partial.of(pattern, means, covariances)
            weight, complete, factor = r[pattern.rows], part.mean(rows), part.hidden_factor
            weighted = weight.unsqueeze(-1) * complete
            first += weighted.sum((0, 1))
            second += torch.einsum("pnci,pncj->cij", weighted, complete)
            second += torch.einsum("pcij,pckj->cik", weight.sum(1)[..., None, None] * factor, factor)
        if self.covariance != "full":
            second = torch.diag_embed(second.diagonal(dim1=-2, dim2=-1))
        return {"first": first, "second": second}

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        counts = statistics["counts"]
        alive = counts > self.min_share * counts.sum()
        counts = counts[alive].unsqueeze(-1)
        means = statistics["first"][alive] / counts
        covariances = statistics["second"][alive] / counts.unsqueeze(-1) - torch.einsum("ci,cj->cij", means, means)
        self.offsets[alive] = means / self.unit
        self._set_covariances(alive, covariances)

    def _set_covariances(self, which: Tensor | slice, covariances: Float[Tensor, "c d d"]) -> None:
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        if self.covariance == "full":
            factor = cholesky(self._raised(covariances))
            scales = factor.diagonal(dim1=-2, dim2=-1)
            self.lower[which] = factor.tril(-1) / scales.unsqueeze(-1)
            variances = scales.square()
        elif self.covariance == "spherical":
            variances = variances.mean(-1, keepdim=True)
        self.log_scales[which] = 0.5 * variances.clamp_min(self.min_variance).log()

    def _raised(self, covariances: Float[Tensor, "c d d"]) -> Float[Tensor, "c d d"]:
        """Eigenvalues at the floor or above it; only where one is below, as rounding in them mixes unlike units."""
        floor = self.min_variance * torch.eye(covariances.shape[-1]).to(covariances)
        _, low = torch.linalg.cholesky_ex(covariances - floor)
        if not low.any():
            return covariances
        values, vectors = torch.linalg.eigh(covariances)
        raised = (vectors * values.clamp_min(self.min_variance).unsqueeze(-2)) @ vectors.mT
        return torch.where((low > 0)[:, None, None], raised, covariances)
