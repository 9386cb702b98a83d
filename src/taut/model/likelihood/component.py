"""A look-up table of Gaussians."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.distributions.component import ComponentNormal
from taut.errors import UserError
from taut.functional import em_sums
from taut.functional.column_units import Units, measured
from taut.functional.em_sums import Sums
from taut.functional.gaussian import bounded
from taut.functional.incomplete import Incomplete
from taut.functional.missing import filled
from taut.functional.threads import each_alone
from taut.model.likelihood.base import Likelihood

KMEANS_ROWS = 2**14
"""Rows that k-means looks at; of a larger table a random choice of so many."""
DISTANCE_ROWS = 2**14
"""Rows whose distances are held at once."""


def clusters(
    rows: Float[Tensor, "n d"], count: int, seed: int, *, tries: int = 1, some: Float[Tensor, "m d"] | None = None
) -> Int[Tensor, " m"]:
    """The number of each row's cluster: k-means from a k-means++ start (Arthur & Vassilvitskii, 2007).

    Args:
        rows: Data without missing cells, columns in like units.
        count: Number of clusters.
        seed: Seed of the start, and of the choice of rows.
        tries: Number of starts, of which the one with the nearest centres is taken.
        some: The rows whose clusters are asked for; all of them by default.
    """
    wanted = rows if some is None else some
    # here, where it is needed: scikit-learn takes long to import
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if count == 1:
        return torch.zeros(len(wanted), dtype=torch.long, device=rows.device)
    chosen = rows if len(rows) <= KMEANS_ROWS else rows[_some(len(rows), seed).to(rows.device)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        means = KMeans(count, n_init=tries, random_state=seed)  # pyright: ignore[reportArgumentType] (its stub's fault)
        fitted = means.fit(chosen.double().cpu().numpy())
    centres = torch.as_tensor(fitted.cluster_centers_).to(rows)
    return torch.cat([torch.cdist(part, centres).argmin(-1) for part in wanted.split(DISTANCE_ROWS)])


def _some(n: int, seed: int) -> Tensor:
    # a generator on the CPU makes the same choice on every device
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:KMEANS_ROWS]


Covariance = Literal["spherical", "diagonal", "full", "tied"]

ROWS = 4096
"""Rows of which tables are held at once where a formula needs them, so that memory is flat in N."""
AT = 1 + 1e-6
"""Times a floor up to which a variance is at it."""


@dataclass(frozen=True)
class Holes:
    """Rows with missing cells, sorted by which are missing.

    Args:
        parts: Some of the rows at a time, and the same in units, sorted.
    """

    parts: list[tuple[Float[Tensor, "r d"], Incomplete]]

    @classmethod
    def of(cls, x: Float[Tensor, "b d"], units: Units) -> "Holes":
        """Sort them."""
        return cls([(rows, Incomplete.of(units.inside(rows))) for rows in x.split(ROWS)])


class Component(Likelihood):
    r"""$p(x \mid z = c) = N(x; m_c, \Sigma_c)$: the look-up table of a mixture of Gaussians.

    The parameters are relative to the mean and the standard deviation of each column of the training rows, so that
    nothing depends on the units of the columns: $m = \bar x + u \odot o$ and $L = \mathrm{diag}(u \odot s) (I + A)$
    with A strictly lower. Under ``spherical`` u is one number, the root of the columns' mean variance; that of a column
    which has one value throughout is 1.

    In EM, eigenvalues (variances) below the floor are raised to it in these units, which is the exact maximum under
    that constraint, so the likelihood stays bounded and still never decreases. A component that explains a smaller
    share of the rows than ``min_share`` keeps its last mean and covariance.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of components C, the length of the one-hot z.
        covariance: ``spherical`` (one variance), ``diagonal``, ``full``, or ``tied``, a full one of all components,
            as linear discriminant analysis has it.
        min_variance: Floor of every variance (eigenvalue), as a fraction of the columns' variances.
        min_share: Expected share of the rows under which EM leaves a component alone.
    """

    of_categories = True
    centre: Tensor
    unit: Tensor
    rows: Tensor
    counts: Tensor
    constant: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        *,
        covariance: Covariance = "full",
        min_variance: float = 1e-14,
        min_share: float = 1e-6,
    ) -> None:
        super().__init__()
        if covariance not in get_args(Covariance):
            raise UserError(
                f"likelihood.covariance={covariance!r} is not known; choose spherical, diagonal, full or tied."
            )
        size = prod(x_shape)
        self.x_shape = tuple(x_shape)
        self.covariance: Covariance = covariance
        self.full, self.tied = covariance in ("full", "tied"), covariance == "tied"
        self.mixtures = 1  # whose components this table holds, one after the other; each has a covariance if tied
        self.min_variance, self.min_share = min_variance, min_share
        self.offsets = nn.Parameter(torch.randn(latent, size))
        self.log_scales = nn.Parameter(torch.zeros(latent, 1 if covariance == "spherical" else size))
        if self.full:
            self.lower = nn.Parameter(torch.zeros(latent, size, size))
        self.register_buffer("centre", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(size, dtype=torch.float64))
        self.register_buffer("rows", torch.zeros((), dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(size, dtype=torch.bool))
        # infinite before an M-step, so that no component counts as one of too few rows
        self.register_buffer("counts", torch.full((latent,), torch.inf, dtype=torch.float64))

    @property
    def units(self) -> Units:
        """Middle and unit of every column, to which the parameters are relative."""
        return Units(self.centre, self.unit)

    @property
    def means(self) -> Float[Tensor, "c d"]:
        """The means $m_c$."""
        return self.units.outside(self.offsets)

    def factors(self) -> Float[Tensor, "c d d"]:
        """Cholesky factors of the covariances in ``units``; no diagonal is below the root of the floor."""
        scales = self._shared(self.log_scales).exp().clamp_min(self.min_variance**0.5).expand_as(self.offsets)
        diagonal = torch.diag_embed(scales)
        return diagonal + scales.unsqueeze(-1) * self._shared(self.lower).tril(-1) if self.full else diagonal

    def _shared(
        self, values: Float[Tensor, "c *d"], weights: Float[Tensor, " c"] | None = None
    ) -> Float[Tensor, "c *d"]:
        """The mean over the components of a mixture in the place of each, where they have one covariance."""
        if not self.tied:
            return values
        own = values.unflatten(0, (self.mixtures, -1))
        if weights is None:
            # a mean of equal numbers may round: those that EM has set are equal
            return (own[:, :1] + (own - own[:, :1]).mean(1, keepdim=True)).expand_as(own).flatten(0, 1)
        parts = weights.reshape(own.shape[:2] + (1,) * (own.dim() - 2))
        return ((parts * own).sum(1, keepdim=True) / parts.sum(1, keepdim=True)).expand_as(own).flatten(0, 1)

    def scale_tril(self) -> Float[Tensor, "c d d"]:
        """Their Cholesky factors in the units of x."""
        return self.unit.unsqueeze(-1) * self.factors()

    def covariances(self) -> Float[Tensor, "c d d"]:
        r"""$\Sigma_c$, in squared units of x."""
        factors = self.scale_tril()
        return factors @ factors.mT

    def forward(self, z: Float[Tensor, "*batch c"]) -> ComponentNormal:
        return ComponentNormal(z, self.offsets, self.factors(), self.units, torch.Size(self.x_shape))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        """The means and covariances of the clusters that k-means finds, the best of 3 as k-means judges them."""
        count, rows = len(self.offsets), x.flatten(1)
        if len(x) < count:
            raise UserError(
                f"model.components={count} is more than the {len(x)} training rows; choose fewer components."
            )
        self.measure(rows)
        # scikit-learn has a generator of its own: torch's gives it the seed, so that one seed rules both
        inside, seed = self.starting_rows(rows), int(torch.randint(2**31, ()))
        self.start(inside, clusters(inside, count, seed, tries=3))

    @torch.no_grad()
    def measure(self, rows: Float[Tensor, "n d"]) -> None:
        """Set the units to which the parameters are relative."""
        units, constant = measured(rows, common=self.covariance == "spherical")
        self.centre.copy_(units.centre)
        self.unit.copy_(units.unit)
        self.rows.fill_(len(rows))
        self.constant.copy_(constant)

    def starting_rows(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Rows in ``units``, with each missing cell at the mean of its column."""
        return filled(self.units.inside(rows))

    @torch.no_grad()
    def start(self, inside: Float[Tensor, "n d"], *labels: Int[Tensor, " n"]) -> None:
        """Mean and covariance of the rows of each component; one of too few rows has the covariance of all, pooled.

        Args:
            inside: Data without missing cells, in ``units``.
            labels: The component of every row; several, one after the other, where this table is of several mixtures.
        """
        sums = [em_sums.of_clusters(inside, own, len(self.offsets) // len(labels)) for own in labels]
        counts, means, second = (torch.cat(part) for part in zip(*sums, strict=True))
        # an empty component has sums of 0, and 0 / 0 would be NaN
        few, spread = counts < self.needed, second / counts.clamp_min(1.0)[:, None, None]
        spread[few] = second.sum(0) / counts.sum()
        spread = self._shared(spread, counts)
        self.counts.copy_(counts)
        self.offsets.copy_(means)
        self._set_factors(torch.ones_like(few), torch.eye(inside.shape[1]).to(second).expand_as(second), spread)

    @property
    def needed(self) -> int:
        """Rows below which a component's covariance is singular, wherever they are; none if it is that of all rows."""
        return 0 if self.tied else self.offsets.shape[1] + 1 if self.full else 2

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> Sums:
        """The sums of :mod:`taut.functional.em_sums` at the parameters as they are, without correlations a diagonal."""
        return self._sums(self.units.inside(x.flatten(1)), posterior.mean.double())  # one-hot z: responsibilities

    def _sums(self, rows: Float[Tensor, "b d"], r: Float[Tensor, "b c"]) -> Sums:
        form = em_sums.of_incomplete_rows if rows.isnan().any() else em_sums.of_complete_rows
        return self._shaped(form(rows, r, self.offsets.double(), self.factors().double()))

    def _shaped(self, found: Sums) -> Sums:
        if self.full:
            return found
        return {**found, "second": torch.diag_embed(found["second"].diagonal(dim1=-2, dim2=-1))}

    def prepared(self, x: Float[Tensor, "b *x"]) -> Tensor | Holes:
        """Data in the form in which ``expect`` takes them, made once where it is asked many times."""
        return Holes.of(x.flatten(1), self.units) if x.isnan().any() else x

    @torch.no_grad()
    def expect(
        self, x: Float[Tensor, "b *x"] | Holes, log_weights: Float[Tensor, "*s c"]
    ) -> tuple[Float[Tensor, "*s b"], Sums]:
        r"""$\log p(x)$ of the mixture in nats, and the ``statistics`` under its posterior.

        Args:
            x: Data, or what ``prepared`` made of them.
            log_weights: $\log \pi_c$; of several mixtures, whose components are those of this table in their order,
                if there is one more axis.
        """
        weights = log_weights.double().reshape(-1, log_weights.shape[-1])
        x = x if isinstance(x, Holes) else self.prepared(x)
        if isinstance(x, Holes):
            gaussians = weights, self.offsets.double(), self.factors().double()
            work = partial(self._with_holes, gaussians=gaussians)
            found = _joined(each_alone(work, x.parts) if weights.device.type == "cpu" else [*map(work, x.parts)])
        elif em_sums.pays(prod(self.x_shape), self.full):
            found = self._in_one_pass(x.flatten(1), weights)
        else:
            found = _joined([self._by_table(rows, weights) for rows in x.flatten(1).split(ROWS)])
        return found[0].reshape(*log_weights.shape[:-1], -1), found[1]

    def _in_one_pass(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Sums]:
        rows, factors = self.units.inside(x), self.factors().double()
        gaussians = em_sums.Gaussians(weights.flatten(), self.offsets.double(), factors, self.full)
        log_px, found = em_sums.e_step(gaussians, rows, mixtures=len(weights))
        return log_px - self.unit.log().sum(), found

    def _with_holes(
        self, part: tuple[Tensor, Incomplete], gaussians: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Sums]:
        x, rows = part
        found = rows.expect(*gaussians)
        if found is None:
            return self._by_table(x, gaussians[0])
        return found[0] - self.units.log_volume(x), self._shaped(found[1])

    def _by_table(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Sums]:
        rows = self.units.inside(x)
        table = self(weights.new_zeros(1, weights.numel())).table(x)
        table = table.unflatten(-1, weights.shape) + weights  # [b, s, c]
        log_px, r = table.logsumexp(-1).mT, table.softmax(-1).flatten(1)
        return log_px, self._sums(rows, r)

    @torch.no_grad()
    def maximise(self, statistics: Sums) -> None:
        """Set the parameters to the maximum; the sums are relative to the new ones afterwards, to be added to."""
        counts = statistics["counts"]
        self.counts.copy_(counts / counts.sum() * self.rows)
        alive = counts > self.min_share * counts.sum()
        means, factors, n = self.offsets.double(), self.factors().double(), counts[alive].unsqueeze(-1)
        shift = statistics["first"][alive] / n
        spread = statistics["second"][alive] / n.unsqueeze(-1) - torch.einsum("ci,cj->cij", shift, shift)
        self.offsets[alive] = (means[alive] + (factors[alive] @ shift.unsqueeze(-1)).squeeze(-1)).to(self.offsets)
        if self.tied:  # that of a component left alone is the covariance of the others, too
            own = torch.zeros_like(factors)
            own[alive] = spread
            alive, spread = torch.ones_like(alive), self._shared(own, counts * alive)
        self._set_factors(alive, factors[alive], spread)
        # as they were rounded when stored: the sums must be relative to what the next E-step reads
        new = self.offsets.double(), self.factors().double()
        statistics.update(self._shaped(em_sums.moved(statistics, (means, factors), new)))

    def _set_factors(self, which: Tensor, factors: Float[Tensor, "m d d"], spread: Float[Tensor, "m d d"]) -> None:
        r"""Set the covariances to $F M F^\top$, in ``units``, or to the nearest this table can hold."""
        if self.full:
            lower = bounded(factors, spread, self.min_variance)
            scales = lower.diagonal(dim1=-2, dim2=-1)
            self.lower[which] = (lower.tril(-1) / scales.unsqueeze(-1)).to(self.lower)
        else:
            variances = factors.diagonal(dim1=-2, dim2=-1).square() * spread.diagonal(dim1=-2, dim2=-1)
            variances = variances.mean(-1, keepdim=True) if self.covariance == "spherical" else variances
            scales = variances.clamp_min(self.min_variance).sqrt()
        self.log_scales[which] = scales.log().to(self.log_scales)

    @property
    def at_the_floor(self) -> Bool[Tensor, " c"]:
        """The components of which a variance is at the floor."""
        factors = self.factors().detach().double()
        low = factors.diagonal(dim1=-2, dim2=-1) <= AT * self.min_variance**0.5
        if not self.full:
            return low.any(-1)
        # of the factor: the eigenvalues of its square would lose half the digits
        least = torch.linalg.svdvals(factors)[:, -1].square() / self.min_variance
        return low.any(-1) | (least.log().abs() <= AT - 1)

    @property
    def too_few(self) -> Bool[Tensor, " c"]:
        """The components that explain too few rows for a covariance, in the M-step last made."""
        return self.counts < self.needed

    def limits(self, z: Float[Tensor, "*batch c"]) -> list[str]:
        del z
        count, words = len(self.offsets), f"likelihood.min_variance={self.min_variance:g}"
        constant, low, few = (int(some.sum()) for some in (self.constant, self.at_the_floor, self.too_few))
        sentences = []
        if constant:
            sentences.append(
                f"{constant} of {len(self.constant)} columns have one value in all training rows; log p(x) depends on "
                f"the variance they are given, {words} in squared units."
            )
        if low:
            sentences.append(
                f"the floor of the variances binds in {low} of {count} components, and the value of log p(x) depends "
                f"on it: {words} of each column's variance."
            )
        if few:
            sentences.append(
                f"{few} of {count} components explain fewer than the {self.needed} rows that likelihood.covariance="
                f"{self.covariance} takes: the likelihood has no maximum, it is bounded by {words} alone; choose fewer "
                "components or a simpler covariance."
            )
        return sentences

    @property
    def degrees_of_freedom(self) -> int:
        count, size = self.offsets.shape
        of_each = {"spherical": 1, "diagonal": size}.get(self.covariance, size * (size + 1) // 2)
        return count * size + (1 if self.tied else count) * of_each


def _joined(parts: "list[tuple[Tensor, Sums]]") -> "tuple[Tensor, Sums]":
    return torch.cat([log_px for log_px, _ in parts], -1), reduce(em_sums.added, (sums for _, sums in parts))
