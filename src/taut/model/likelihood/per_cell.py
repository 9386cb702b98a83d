"""Base classes of the likelihoods whose cells are independent given z, each by some numbers of a network."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.distributions.cells import Cells
from taut.errors import UserError
from taut.functional.missing import column_mean, column_scale, is_constant
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood

MOST = 15.0
"""Size of a logarithm beyond which it stays: e^15 units of the data leave nothing to explain."""


class PerCell(Likelihood):
    r"""$p(x \mid z) = \prod_i p(x_i; \theta_i)$ with $\theta_i = f(z)_i + b_i$, some numbers (heads) for each cell.

    A concrete family gives the distribution of the cells from their heads, in ``cells``; where all are 0 the density is
    that of a typical column, and ``initialise`` moves the offset b to that of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, shape)``; any module (:mod:`taut.model.building`). The heads lie
            along the first axis of its output, which is so many times as long as that of x.
        heads: Numbers of each cell.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], heads: int) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        first, *others = self.x_shape
        self.decoder = decoder_of(decoder, latent, (heads * first, *others))
        self.offset = nn.Parameter(torch.zeros(heads, *self.x_shape))

    def forward(self, z: Float[Tensor, "*batch d"]) -> Cells:
        axes = len(self.x_shape)
        output = self.decoder(z).unflatten(-axes, (len(self.offset), self.x_shape[0])) + self.offset
        # under autocast the network gives half precision, in which no density is worth its name
        heads = output.to(torch.promote_types(output.dtype, torch.float32)).movedim(-1 - axes, 0)
        return Cells(self.cells(heads), axes, validate_args=False)

    @abstractmethod
    def cells(self, heads: Float[Tensor, "h *cells"]) -> Distribution:
        """The distribution of the cells, one by one, from their heads."""


class LocationScale(PerCell):
    r"""A symmetric density in units of the data: $x_i = \mu_i + s_i (f_i + b_i \epsilon_i)$, $b = b_{\min} + e^g$.

    $\mu$ and s are the mean and the standard deviation of the training rows; the floor $b_{\min}$ keeps the likelihood
    bounded.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: As for :class:`PerCell`.
        heads: Numbers of each cell, of which f and g are the first two.
        min_scale: The floor $b_{\min}$, as a fraction of each coordinate's standard deviation.
    """

    shift: Tensor
    unit: Tensor
    constant: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        heads: int,
        min_scale: float,
    ) -> None:
        super().__init__(x_shape, latent, decoder, heads)
        self.min_scale = min_scale
        self.register_buffer("shift", torch.zeros(self.x_shape, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(self.x_shape, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(self.x_shape, dtype=torch.bool))

    @abstractmethod
    def standard(self, heads: Float[Tensor, "h *cells"]) -> Distribution:
        """The distribution of the cells in units of the data."""

    def cells(self, heads: Float[Tensor, "h *cells"]) -> Distribution:
        return InUnits(self.standard(heads), self.shift, self.unit)

    def scale(self, g: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The scale b of a head g."""
        return self.min_scale + g.clamp(max=MOST).exp()

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.shift.copy_(column_mean(x))
        self.unit.copy_(column_scale(x))
        self.constant.copy_(is_constant(x))

    @torch.no_grad()
    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        axes = len(self.x_shape)
        g = self.decoder(z).unflatten(-axes, (len(self.offset), self.x_shape[0])).select(-1 - axes, 1) + self.offset[1]
        return limits_of(
            g.double().flatten(-axes).flatten(0, -2),
            most=MOST,
            floor=self.min_scale,
            key="min_scale",
            constant=int(self.constant.sum()),
            what=("scale", "standard deviation"),
        )


class Counts(PerCell):
    r"""A probability mass on 0, 1, 2, ... whose mean is $m_i e^{f(z)_i}$, m the means of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: As for :class:`PerCell`.
        heads: Numbers of each cell, of which f is the first.
        word: Its word on the command line.
    """

    unit: Tensor

    def __init__(
        self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], heads: int, word: str
    ) -> None:
        super().__init__(x_shape, latent, decoder, heads)
        self.word = word
        # in float64, and with it the mean and all terms of the density, whose difference is small beside them
        self.register_buffer("unit", torch.ones(self.x_shape, dtype=torch.float64))

    @property
    def is_mass(self) -> bool:
        return True

    def rate(self, f: Float[Tensor, "*cells"]) -> Float[Tensor, "*cells"]:
        """The mean of the cells."""
        return self.unit * f.clamp(-MOST, MOST).exp()

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        # a column of zeros alone may hold something elsewhere: half a count more in all rows
        self.unit.copy_(column_mean(x).clamp_min(0.5 / len(x)))

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        refuse_outside(
            x,
            (x >= 0) & (x == x.round()),
            f"likelihood={self.word} needs counts, whole numbers of 0 or more",
            "choose likelihood=gaussian for real numbers, discretised_logistic for grey levels",
        )


class InUnits(Distribution):
    r"""$x = \mu + s r$ for a distribution of r: cells in units of the data.

    Args:
        standard: The distribution of r.
        shift: $\mu$, in float64: an offset is taken off before anything is rounded.
        unit: s, likewise.
    """

    def __init__(self, standard: Distribution, shift: Tensor, unit: Tensor) -> None:
        self.standard, self.shift, self.unit = standard, shift, unit
        super().__init__(standard.batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.shift + self.unit * self.standard.mean

    @property
    def variance(self) -> Tensor:
        return self.unit.square() * self.standard.variance

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.shift + self.unit * self.standard.sample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        r = ((value - self.shift) / self.unit).to(self.standard.mean.dtype)
        return self.standard.log_prob(r) - self.unit.log()


def limits_of(
    log_scales: Float[Tensor, "n d"], *, most: float, floor: float, key: str, constant: int, what: tuple[str, str]
) -> list[str]:
    """Sentences about columns without a unit, and about caps and floors of a scale that bind.

    Args:
        log_scales: Logarithms of the scale above its floor, for some data.
        most: Their cap.
        floor: The floor.
        key: Name of the floor in the config.
        constant: Columns with one value.
        what: Its name, and that of its unit.
    """
    name, unit = what
    capped = int((log_scales >= most).any(0).sum())
    floored = int((log_scales.exp().mean(0) < floor).sum())
    count, sentences = log_scales.shape[1], []
    if constant:
        sentences.append(
            f"{constant} of {count} columns have one value in all training rows, so they have no "
            "unit of their own: theirs is 1, and log p(x) depends on it; leave them out."
        )
    if capped:
        sentences.append(
            f"the log-{name} of {capped} of {count} columns is at its cap of {most:g} (in units of their "
            f"{unit}) for some data, where log p(x) depends on the cap."
        )
    if floored:
        sentences.append(
            f"the {name} of {floored} of {count} columns is mostly the floor likelihood.{key}="
            f"{floor:g} (of their {unit}), so log p(x) depends on the floor."
        )
    return sentences


def refuse_outside(x: Tensor, inside: Tensor, needs: str, otherwise: str) -> None:
    """Refuse observed values outside a support.

    Args:
        x: Data.
        inside: Where a value is inside.
        needs: What is expected, e.g. ``likelihood=poisson needs counts``.
        otherwise: What to do.

    Raises:
        UserError: With the first value outside.
    """
    outside = ~inside & ~x.isnan()
    if outside.any():
        raise UserError(f"{needs}, but the data hold {x[outside][0].item():.6g}; {otherwise}.")
