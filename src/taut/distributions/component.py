"""The densities of a look-up table of Gaussians, its samples, and the completions of data with missing cells."""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.functional.column_units import Units
from taut.functional.gaussian import Partial, log_densities
from taut.functional.missing import observed, patterns


class ComponentNormal(Distribution):
    r"""$N(x; m_c, L_c L_c^\top)$ with c the position of the one in z: batch ``z.shape[:-1]``, event ``x_shape``.

    All C densities of each x are computed once and looked up, however many z ask for them. Everything is in float64.

    Args:
        z: One-hot.
        means: $m_c$ in ``units``.
        factors: $L_c$ in ``units``.
        units: The middle and the unit of every coordinate.
        x_shape: Shape of one datum.
    """

    has_rsample = False

    def __init__(
        self,
        z: Float[Tensor, "*batch c"],
        means: Float[Tensor, "c d"],
        factors: Float[Tensor, "c d d"],
        units: Units,
        x_shape: torch.Size,
    ) -> None:
        self.z, self.means, self.factors, self.units = z, means.double(), factors.double(), units
        self.dtype = means.dtype
        super().__init__(z.shape[:-1], x_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.outside(self.z.double() @ self.means)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        with torch.no_grad():
            z = self.z.double()
            shape = (*sample_shape, *z.shape[:-1], self.means.shape[-1])
            noise = torch.randn(shape, dtype=self.means.dtype, device=self.means.device)
            std = torch.einsum("...c,cij,...j->...i", z, self.factors, noise)
            return self.outside(z @ self.means + std)

    def outside(self, y: Float[Tensor, "*n d"]) -> Tensor:
        """Data in the units and the shape of x."""
        return self.units.outside(y).unflatten(-1, self.event_shape)

    def log_prob(self, value: Float[Tensor, "..."]) -> Tensor:
        table = self.table(value.flatten(-len(self.event_shape)))
        chosen = self.z.argmax(-1)
        shape = torch.broadcast_shapes(table.shape[:-1], chosen.shape)
        table = table.expand(*shape, table.shape[-1])
        found = table.gather(-1, chosen.expand(shape).unsqueeze(-1)).squeeze(-1)
        return found.to(torch.promote_types(value.dtype, self.dtype))

    def table(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        """The log-density of the observed coordinates of x under every Gaussian, nats."""
        rows = self.units.inside(x)
        # every mask costs factors of its own; data without missing cells need none
        partly = rows.isnan().any()
        inside = self._partial_table(rows) if partly else log_densities(rows, self.means, self.factors)
        return inside - self.units.log_volume(x).unsqueeze(-1)

    def _partial_table(self, rows: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        flat = rows.flatten(0, -2)
        table = flat.new_empty(len(flat), len(self.means))
        for part in self.parts(flat):
            table[part.pattern.rows] = part.log_prob(flat)
        return table.unflatten(0, rows.shape[:-1])

    def parts(self, rows: Float[Tensor, "n d"]) -> Iterator[Partial]:
        """The Gaussians as each mask among the data cuts them, in ``units``."""
        return (Partial.of(pattern, self.means, self.factors) for pattern in patterns(rows))

    def given(self, x: Float[Tensor, "b *x"]) -> "GivenComponent":
        """The completions of data with missing cells, for every z."""
        return GivenComponent(self, x)


class GivenComponent:
    r"""$p(x \mid z, x_{obs})$ of Gaussians with covariances: the missing cells follow from the observed ones.

    Args:
        distribution: $p(x \mid z)$, batch ``(k, b)``.
        x: Data with missing cells, ``[b, *x]``.
    """

    def __init__(self, distribution: ComponentNormal, x: Float[Tensor, "b *x"]) -> None:
        self.distribution, self.x = distribution, x
        self.z = distribution.z.double()
        self.rows = distribution.units.inside(x.flatten(1))
        self.means = self.rows.new_zeros(len(x), *distribution.means.shape)
        for part in distribution.parts(self.rows):
            self.means[part.pattern.rows] = part.mean(self.rows)

    @cached_property
    def factors(self) -> Float[Tensor, "b c d d"]:
        """Factors of the covariances of the missing cells; large, so made only when asked for."""
        factors = self.rows.new_zeros(len(self.x), *self.distribution.factors.shape)
        for part in self.distribution.parts(self.rows):
            factors[part.pattern.rows] = part.missing_factor.unsqueeze(1)
        return factors

    @property
    def mean(self) -> Float[Tensor, "k b *x"]:
        """Mean of every cell."""
        return self._around(self._inside)

    @property
    def stddev(self) -> Float[Tensor, "k b *x"]:
        """Standard deviation of every cell, 0 where it is observed."""
        stds = self.factors.square().sum(-1).sqrt() * self.distribution.units.unit
        return torch.einsum("...bc,bcd->...bd", self.z, stds).unflatten(-1, self.x.shape[1:]).to(self.x)

    def sample(self) -> Float[Tensor, "k b *x"]:
        """One completion for every z."""
        shape = (*self.z.shape[:-1], self.means.shape[-1])
        noise = torch.randn(shape, dtype=self.means.dtype, device=self.means.device)
        return self._around(self._inside + torch.einsum("...bc,bcij,...bj->...bi", self.z, self.factors, noise))

    @property
    def _inside(self) -> Tensor:
        return torch.einsum("...bc,bcd->...bd", self.z, self.means)

    def _around(self, inside: Tensor) -> Tensor:
        """The observed cells as they are, to the bit, and the others in the units of x."""
        return torch.where(observed(self.x), self.x, self.distribution.outside(inside).to(self.x))
