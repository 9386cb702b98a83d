"""A family for each column of a table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.config.synonyms import meant
from taut.distributions.cells import MixedColumns
from taut.errors import UserError, nearest
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.beta import Beta
from taut.model.likelihood.categorical import Categorical
from taut.model.likelihood.continuous_bernoulli import ContinuousBernoulli
from taut.model.likelihood.gaussian import Gaussian
from taut.model.likelihood.laplace import Laplace
from taut.model.likelihood.negative_binomial import NegativeBinomial
from taut.model.likelihood.poisson import Poisson
from taut.model.likelihood.student_t import StudentT
from taut.model.networks import Unchanged

FAMILIES: Mapping[str, Callable[..., Likelihood]] = {
    "bernoulli": Bernoulli,
    "beta": Beta,
    "categorical": Categorical,
    "continuous_bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "negative_binomial": NegativeBinomial,
    "poisson": Poisson,
    "student_t": StudentT,
}
MOST_LEVELS = 20
"""Whole numbers from 0 that are taken for categories, unless the config says otherwise."""


class Mixed(Likelihood):
    r"""$p(x \mid z) = \prod_i p_i(x_i \mid z)$, a family for each column, all of one network (Nazabal et al., 2020).

    The score is a density where any column has one.

    Args:
        x_shape: Shape of one datum, a row of a table.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, (heads,))``, the heads of all columns.
        families: The family of each column, by its name, in order: see :func:`families_of`.

    Raises:
        UserError: If x is no row of a table, or a family is unknown.
    """

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        families: Mapping[Any, str] | None = None,
    ) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.families: dict[Any, str] = dict(families or {})
        if len(self.x_shape) != 1:
            raise UserError("likelihood=mixed is for the columns of a table; choose another likelihood for images.")
        if len(self.families) != self.x_shape[0]:
            raise UserError(
                f"likelihood.families names {len(self.families)} columns, and the data have {self.x_shape[0]}; give a "
                "family for each."
            )
        words = [family.split() for family in self.families.values()]
        self.groups = {word: [i for i, (own, *_) in enumerate(words) if own == word] for word, *_ in words}
        levels = {i: int(count[0]) for i, (_, *count) in enumerate(words) if count}
        self.parts = nn.ModuleList(_part(word, columns, levels) for word, columns in self.groups.items())
        self.sizes = [part.get_parameter("offset").numel() for part in self.parts]
        self.decoder = decoder_of(decoder, latent, (sum(self.sizes),))

    @property
    def is_mass(self) -> bool:
        return all(part.is_mass for part, _ in self._parts())

    def forward(self, z: Float[Tensor, "*batch d"]) -> MixedColumns:
        outputs = self.decoder(z).split(self.sizes, -1)
        columns = [torch.tensor(columns, device=outputs[0].device) for columns in self.groups.values()]
        return MixedColumns([part(output) for part, output in zip(self.parts, outputs, strict=True)], columns)

    def initialise(self, x: Float[Tensor, "n d"]) -> None:
        for part, columns in self._parts():
            part.initialise(x[:, columns])

    def check(self, x: Float[Tensor, "n d"]) -> None:
        super().check(x)
        names = list(self.families)
        for word, (part, columns) in zip(self.groups, self._parts(), strict=True):
            try:
                part.check(x[:, columns])
            except UserError as error:
                column, reason = _refused(part, x, columns, error)
                raise UserError(
                    f"likelihood.families: the column {names[column]} cannot be {word}: {reason}; choose another "
                    "family for it, such as gaussian for real numbers."
                ) from error

    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        outputs = self.decoder(z).split(self.sizes, -1)
        parts = zip(self.groups, self._parts(), outputs, strict=True)
        return [f"{word}: {sentence}" for word, (part, _), output in parts for sentence in part.limits(output)]

    @property
    def about(self) -> str:
        return "columns: " + ", ".join(f"{name} {family}" for name, family in self.families.items())

    def _parts(self) -> Iterable[tuple[Any, list[int]]]:
        return zip(self.parts, self.groups.values(), strict=True)


def _refused(part: Likelihood, x: Float[Tensor, "n d"], columns: list[int], error: UserError) -> tuple[int, str]:
    """The first of some columns that a likelihood refuses, and why."""
    for i, column in enumerate(columns):
        # each by itself, and only after a refusal: one check of all is as cheap as that of one column
        alone = torch.full((len(x), len(columns)), torch.nan, dtype=x.dtype, device=x.device)
        alone[:, i] = x[:, column]
        try:
            part.check(alone)
        except UserError as found:
            return column, str(found).partition(";")[0].replace("likelihood=", "")
    return columns[0], str(error).partition(";")[0].replace("likelihood=", "")


def _part(word: str, columns: list[int], levels: Mapping[int, int]) -> Likelihood:
    """The likelihood of some columns, of heads that the network of all has made."""
    if word not in FAMILIES:
        raise UserError(
            f"likelihood.families: {word!r} is not a family of columns; {meant('likelihood', word, FAMILIES)}"
        )
    counts = [levels.get(column) for column in columns]
    if word == "categorical" and None in counts:
        raise UserError("likelihood.families: categorical needs its number of levels, as in 'categorical 3'.")
    options = {"levels": counts} if word == "categorical" else {}
    return FAMILIES[word]((len(columns),), 1, lambda latent, shape: Unchanged(), **options)


def families_of(parts: Iterable[Tensor], told: Any, names: Sequence[str] | None) -> dict[str, str]:
    """The family of each column: what the config says, else the one that suits its values.

    Zeros and ones: ``bernoulli``. Whole numbers from 0 to 19 at most, each of which occurs: ``categorical`` with their
    number. Other whole numbers of 0 or more that vary as much as Poisson's or more: ``negative_binomial``. All else:
    ``gaussian``.

    Args:
        parts: All rows, in parts ``[n, d]``.
        told: Families by the name of their column, or its number from 1.
        names: Names of the columns.

    Raises:
        UserError: If a column is named that does not exist.
    """
    x = torch.cat([part.reshape(len(part), -1) for part in parts])
    columns = list(names) if names else [str(i) for i in range(1, x.shape[1] + 1)]
    told = {str(name): str(family) for name, family in dict(told or {}).items()}
    numbered = {str(i): name for i, name in enumerate(columns, 1)}
    found = {name: _family_of(x[:, i]) for i, name in enumerate(columns)}
    for name, family in told.items():
        column = name if name in found else numbered.get(name)
        if column is None:
            raise UserError(f"likelihood.families: there is no column {name}; {nearest(name, columns)}")
        levels = int(x[:, columns.index(column)].nan_to_num(0).max()) + 1
        found[column] = f"categorical {max(levels, 2)}" if family == "categorical" else family
    return found


def _family_of(x: Float[Tensor, " n"]) -> str:
    x = x[~x.isnan()]
    if not len(x) or (x < 0).any() or (x != x.round()).any():
        return "gaussian"
    highest = int(x.max())
    if highest <= 1:
        return "bernoulli"
    if highest < MOST_LEVELS and len(x.unique()) == highest + 1:
        return f"categorical {highest + 1}"
    return "negative_binomial" if x.var(correction=0) >= x.mean() else "gaussian"
