"""Base class of the likelihoods."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.errors import UserError
from taut.functional.precision import DoubleBuffers


class Likelihood(DoubleBuffers, ABC):
    r"""A likelihood p(x | z): a module whose forward returns a distribution over x.

    For z of shape ``[k, b, *z_shape]`` the distribution has batch ``(k, b)`` and event ``x_shape``. Its ``log_prob`` of
    an x with missing cells (NaN, :mod:`taut.functional.missing`) is that of the observed cells, and ``given(x)`` is
    $p(x \mid z, x_{obs})$: both are done by :class:`taut.distributions.cells.Cells` where cells are independent given
    z. A new likelihood sets ``x_shape`` and implements ``forward``. ``of_categories`` says that z must be one-hot,
    ``binary`` that x is zeros and ones, ``models_mask`` that the density of x is that of its observed cells and of
    which cells those are, ``families`` which family each column of a table has, where they may differ; ``seen``, set by
    the joint, how many coordinates the layer of z has that x is made of, where there are several; ``initialise``
    chooses starting values from training rows; ``statistics`` and
    ``maximise`` are for those with a closed-form maximum in EM.
    """

    x_shape: tuple[int, ...]
    of_categories: bool = False
    binary: bool = False
    models_mask: bool = False
    families: dict[Any, str] | None = None
    seen: int | None = None

    def __call__(self, z: Float[Tensor, "*batch d"]) -> Any:
        """The distribution p(x | z), of the layer of z that x is made of."""
        return super().__call__(self.layer(z))

    def layer(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch s"]:
        """The coordinates of z that x is made of: all, or where z has several layers the first."""
        return z if self.seen is None else z[..., : self.seen]

    @abstractmethod
    def forward(self, z: Float[Tensor, "*batch d"]) -> Distribution:
        """The distribution p(x | z)."""

    @property
    def is_mass(self) -> bool:
        """True where p(x | z) is a probability mass, as of pixels that are 0 or 1, so that no log p(x) is above 0."""
        return self.binary

    @property
    def values(self) -> Float[Tensor, " v"] | None:
        """All values that a cell may take, where they are finitely many and it says so."""
        return torch.tensor([0.0, 1.0]) if self.binary else None

    @property
    def scored_cells(self) -> str:
        """What the density of an x with missing cells is of, as ``result.json`` says it."""
        return "observed and hidden" if self.models_mask else "observed"

    @property
    def about(self) -> str | None:
        """What it has chosen by itself, to be printed before training; ``None`` where there is nothing to say."""
        return None

    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        """Choose starting values from training rows."""
        del x

    def start_em(self, x: Float[Tensor, "n *x"]) -> None:
        """Choose the starting values of EM: the maximum itself, where it is known; after ``initialise``."""
        del x

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        """Refuse data this likelihood gives no density to.

        Raises:
            UserError: If an observed value is not finite or outside the support.
        """
        if x.isinf().any():
            raise UserError("The data hold an infinite value; remove or replace it first.")

    def hidden(self, x: Float[Tensor, "n *x"]) -> Float[Tensor, "n *x"]:
        """Rows of the model without the cells that its model of the mask hides, drawn anew; here it hides none."""
        return x

    def statistics(self, x: Float[Tensor, "b *x"], posterior: Distribution) -> dict[str, Tensor]:
        """Sums over a batch, expected under its posteriors, that determine the best parameters.

        Raises:
            NotImplementedError: If there is no closed-form maximum.
        """
        raise NotImplementedError

    def limits(self, z: Float[Tensor, "*batch d"]) -> list[str]:
        """Sentences about floors and caps that bind, on which the value of log p(x) then depends.

        Args:
            z: Draws of q(z | x) for the data scored, where a limit depends on z.
        """
        del z
        return []

    @property
    def degrees_of_freedom(self) -> int | None:
        """Number of free parameters, for information criteria; ``None`` where it means nothing, as for networks."""
        return None

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """Set the parameters to the maximum that ``statistics`` (summed over all rows) determine."""
        raise NotImplementedError
