"""Base class of the likelihoods that are linear and Gaussian in z."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from math import log, pi, prod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Normal

from taut.distributions.cells import Cells
from taut.functional.gaussian import cholesky
from taut.functional.missing import column_mean, filled, observed
from taut.model.likelihood.base import Likelihood


class UnitCells(Cells):
    r"""$N(x; c + u \odot f,\ (u \odot s)^2)$ cell by cell, scored as $(x - c) / u - f$: an offset in x is not lost.

    Args:
        f: Means relative to centre and unit, ``[*batch, *x]``, float64.
        deviation: s, likewise.
        centre: c.
        unit: u.
    """

    def __init__(self, f: Tensor, std: Tensor, centre: Tensor, unit: Tensor) -> None:
        self.f, self.std, self.centre, self.unit = f, std, centre, unit
        # not Independent's, which would need the base distribution at once
        Distribution.__init__(self, f.shape[: f.dim() - centre.dim()], centre.shape, False)
        self.reinterpreted_batch_ndims = centre.dim()

    @cached_property
    def base_dist(self) -> Normal:  # type: ignore[override]
        """The cells one by one, in units of x; made when asked for."""
        return Normal(self.centre + self.unit * self.f, (self.unit * self.std).expand_as(self.f), False)

    def log_prob(self, value: Tensor) -> Tensor:
        seen, axes = observed(value), len(self.event_shape)
        inside = filled((value.double() - self.centre) / self.unit)  # a number first: NaN would reach gradients
        r = ((inside - self.f) / self.std).masked_fill(~seen, 0.0)
        constants = seen * (self.std.log() + self.unit.log() + 0.5 * log(2 * pi))
        return -0.5 * r.square().flatten(-axes).sum(-1) - constants.flatten(-axes).sum(-1)


class Whitened(NamedTuple):
    r"""x in the coordinates in which $y \mid z \sim N(B z, I)$; float64.

    Args:
        x: The data relative to centre and unit, NaN where a cell is missing.
        y: The same relative to mean and noise, with a number where a cell is missing: NaN would reach gradients.
        weight: B, ``[D, d]``.
        log_scale: $\log$ of the units of y in units of x, ``[D]``: $\log p(x) = \log p(y) - \sum_j$ ``log_scale``.
    """

    x: Float[Tensor, "b D"]
    y: Float[Tensor, "b D"]
    weight: Float[Tensor, "D d"]
    log_scale: Float[Tensor, " D"]


class LinearGaussian(Likelihood):
    r"""$p(x \mid z) = N(x; W z + \mu, \Psi)$ with a diagonal $\Psi$; a concrete one says which.

    Under a Gaussian or mixture-of-Gaussians prior $p(x)$ and the posterior are known in closed form
    (:mod:`taut.model.exact_inference`). The parameters are relative to the mean and the scale of the training rows,
    which are kept in
    float64: $\mu = c + u \odot o$, $W = \mathrm{diag}(u) A$, $\Psi = \mathrm{diag}(u^2 \odot (v_{\min} + e^g))$. So
    neither an offset nor a unit of x costs digits, and all arithmetic is in float64 whatever the parameters are in.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of latent coordinates d.
        variances: Number of free variances in $\Psi$: 1 or D.
        min_variance: The floor $v_{\min}$, as a fraction of the variance of the training rows.
    """

    centre: Tensor
    unit: Tensor
    reference: ClassVar[str]
    """What the floor is a fraction of, in words."""

    def __init__(self, x_shape: Sequence[int], latent: int, variances: int, min_variance: float) -> None:
        super().__init__()
        size = prod(x_shape)
        self.x_shape = tuple(x_shape)
        self.min_variance = min_variance
        self.loadings = nn.Parameter(torch.randn(size, latent) / latent**0.5)
        self.offset = nn.Parameter(torch.zeros(size))
        self.log_variance = nn.Parameter(torch.zeros(variances))
        self.register_buffer("centre", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(size, dtype=torch.float64))

    @property
    def weight(self) -> Float[Tensor, "D d"]:
        """W, in units of x."""
        return self.unit.unsqueeze(1) * self.loadings

    @property
    def mean(self) -> Float[Tensor, " D"]:
        r"""$\mu$."""
        return self.centre + self.unit * self.offset

    @property
    def std(self) -> Float[Tensor, " D"]:
        """Standard deviation of the noise of every column, relative to its unit."""
        return (self.min_variance + self.log_variance.double().exp()).sqrt().expand_as(self.unit)

    def forward(self, z: Float[Tensor, "*batch d"]) -> UnitCells:
        f = z.double() @ self.loadings.double().mT + self.offset.double()
        return UnitCells(*(value.unflatten(-1, self.x_shape) for value in (f, self.std, self.centre, self.unit)))

    def whitened(self, x: Float[Tensor, "b *x"]) -> Whitened:
        """Data and W relative to the mean and to the noise."""
        std, rows = self.std, self._relative(x)
        y = (filled(rows) - self.offset.double()) / std
        return Whitened(rows, y, self.loadings.double() / std.unsqueeze(1), std.log() + self.unit.log())

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        rows = x.flatten(1).double()
        self.centre.copy_(column_mean(rows))
        self.unit.copy_(self.unit_of(column_deviation(rows)))
        # half of the variance of every column to W z, half to the noise
        self.loadings.mul_(0.5**0.5)
        self._set_variance(torch.full_like(self.unit, 0.5), torch.ones_like(self.unit), slice(None))

    @torch.no_grad()
    def start_em(self, x: Float[Tensor, "n *x"]) -> None:
        rows = self._relative(x)
        self.offset.copy_(column_mean(rows))
        # by the mean itself and not by the offset, which was rounded to the precision of a parameter
        rows = filled(rows - column_mean(rows))
        # a root of the covariance, whose squares would cost digits
        root = torch.linalg.qr(rows / len(rows) ** 0.5, mode="r").R
        loadings, variance = self.fitted(root, bool(x.isnan().any()))
        self.loadings.copy_(loadings)
        self._set_variance(variance.expand_as(self.unit), torch.ones_like(self.unit), slice(None))

    @abstractmethod
    def unit_of(self, stds: Float[Tensor, " D"]) -> Float[Tensor, "..."]:
        """The unit of every column, from the standard deviations of the training rows."""

    @abstractmethod
    def fitted(self, root: Float[Tensor, "m D"], incomplete: bool) -> tuple[Tensor, Tensor]:
        r"""Loadings A and relative variances for rows of covariance $R^\top R$: where EM starts.

        Args:
            root: R.
            incomplete: Whether cells were missing and stand at the mean of their column.
        """

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> dict[str, Tensor]:
        r"""Sums of $(z, 1)(z, 1)^\top$, $e (z, 1)$ and $e^2$ for each column, expected, over the rows that show it.

        $e = x - \mu - W z$ under the present parameters, relative to the units: of the size of the noise, which sums of
        x and x x' would lose. Where all columns share a sum, it has one entry.
        """
        if not isinstance(posterior, MultivariateNormal):
            raise NotImplementedError
        z, weight = posterior.mean.double(), self.loadings.double()
        e = self._relative(x) - self.offset.double() - z @ weight.mT
        seen = observed(e).to(e) if e.isnan().any() else e.new_ones(len(e), 1)
        e, design = filled(e), nn.functional.pad(z, (0, 1), value=1.0)
        spread = _summed(seen, posterior.covariance_matrix.double())
        pull = (weight.unsqueeze(1) @ spread).squeeze(1)  # e holds W (E z - z), too
        return {
            "second": _summed(seen, design.unsqueeze(-1) * design.unsqueeze(-2))
            + nn.functional.pad(spread, (0, 1, 0, 1)),
            "first": e.mT @ design - nn.functional.pad(pull, (0, 1)),
            "squares": e.square().sum(0) + (pull * weight).sum(1),
        }

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """Regress e on (z, 1), column by column, and leave the sums those of e under the new parameters.

        For stepwise EM goes on with them.
        """
        met = statistics["second"][:, -1, -1] > 0
        some = slice(None) if met.all() else met  # a column that no row observed keeps its last values
        second, first, squares = (statistics[name][some] for name in ("second", "first", "squares"))
        # this Cholesky stands a singular sum, as of a column that few rows observe
        step = torch.cholesky_solve(first.unsqueeze(2), cholesky(second)).squeeze(2)
        step = torch.cat(
            [_moved(self.loadings, some, step[:, :-1]), _moved(self.offset, some, step[:, -1]).unsqueeze(1)], 1
        )
        after = first - (step.unsqueeze(1) @ second).squeeze(1)
        # first + after is 2 first - step S, so one product with S serves both sums
        statistics["squares"][some] = squares - (step * (first + after)).sum(1)
        statistics["first"][some] = after
        self._set_variance(statistics["squares"][some], second[:, -1, -1].expand(len(squares)), some)

    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        del z
        bound = int((self.log_variance.detach().double().exp() < self.min_variance).expand_as(self.unit).sum())
        if not bound:
            return []
        of = "all" if bound == len(self.unit) else f"{bound} of {len(self.unit)}"
        return [
            f"The noise variance of {of} columns is at its floor, likelihood.min_variance={self.min_variance:g} times "
            f"{self.reference}, so log p(x) depends on that floor: columns are constant or follow from others, or "
            f"latent_dim is too large for them."
        ]

    @abstractmethod
    def _set_variance(self, squares: Tensor, counts: Tensor, some: Tensor | slice) -> None:
        """Set the variances of some columns to the best ones above the floor for sums of squares of so many cells."""

    def _log_above_floor(self, variance: Tensor) -> Tensor:
        # a variance at the floor has nothing above it, and the log of 0 is no number
        return (variance - self.min_variance).clamp_min(torch.finfo(torch.float64).tiny).log()

    def _relative(self, x: Float[Tensor, "b *x"]) -> Float[Tensor, "b D"]:
        return (x.flatten(1).double() - self.centre) / self.unit

    def _free_loadings(self) -> int:
        """Free numbers in W, of which a rotation of z is none."""
        size, latent = self.loadings.shape
        latent = min(latent, size)
        return size * latent - latent * (latent - 1) // 2


def _moved(parameter: nn.Parameter, some: Tensor | slice, step: Tensor) -> Tensor:
    """Move a parameter; by how much it moved, in its precision."""
    before = parameter[some].double().clone()
    parameter[some] = (before + step).to(parameter)
    return parameter[some].double() - before


def _summed(seen: Float[Tensor, "b c"], matrices: Float[Tensor, "b i j"]) -> Float[Tensor, "c i j"]:
    """Sums over the rows that each column sees."""
    return (seen.mT @ matrices.flatten(1)).unflatten(1, matrices.shape[1:])


def column_deviation(rows: Float[Tensor, "n D"]) -> Float[Tensor, " D"]:
    """Standard deviation of the observed cells of every column, exactly 0 where they are all equal."""
    inside = filled(rows - column_mean(rows))
    # argmax takes no booleans
    first = rows.gather(0, observed(rows).to(torch.uint8).argmax(0, keepdim=True))
    # the rounding of a mean makes a spread of equal values
    largest = inside.abs().amax(0).masked_fill((rows.isnan() | (rows == first)).all(0), 0.0)
    unit = largest.masked_fill(largest == 0, 1.0)  # by the largest: squares may overflow
    return largest.sign() * unit * ((inside / unit).square().sum(0) / observed(rows).sum(0)).sqrt()


def principal(root: Float[Tensor, "m D"], latent: int, floor: float) -> tuple[Float[Tensor, "D d"], Float[Tensor, ""]]:
    r"""The maximum of the likelihood of probabilistic PCA (Tipping & Bishop, 1999): W and $\sigma^2$.

    $W = U (\Lambda - \sigma^2 I)^{1/2}$ and $\sigma^2$ the mean of the D - d discarded eigenvalues of the covariance
    $R^\top R$, or the floor where that is larger. With d >= D none is discarded: $\sigma^2$ is the smallest one, and
    with d - D + 1 columns of W at 0 the covariance is that of the rows. Where d >= n - 1 the discarded ones are 0, and
    $\sigma^2$ is the floor.

    Args:
        root: R.
        latent: d.
        floor: Smallest $\sigma^2$.
    """
    size = root.shape[1]
    # of R and not of the covariance, whose squares would cost digits
    _, roots, directions = torch.linalg.svd(root, full_matrices=False)
    # fewer rows than columns leave eigenvalues of 0 that the decomposition does not give
    values = torch.cat([roots.square(), roots.new_zeros(size - len(roots))])
    variance = values[min(latent, size - 1) :].mean().clamp_min(floor)
    kept = min(latent, len(roots))
    weight = root.new_zeros(size, latent)
    # an eigenvalue below the floor would have a NaN for a root
    weight[:, :kept] = directions[:kept].mT * (values[:kept] - variance).clamp_min(0).sqrt()
    return weight, variance
