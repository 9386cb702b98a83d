"""Base class of the priors."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

from taut.errors import UserError
from taut.functional.precision import DoubleBuffers, in_double


class Prior(DoubleBuffers, ABC):
    """A prior p(z): a module whose forward returns a distribution with batch ``()`` and event ``z_shape``.

    A new prior sets ``z_shape`` (and ``support``, where z is not any real vector) and implements ``forward``. One of
    several stochastic layers is ``layered`` and says in ``layers`` how z is made of them.
    ``initialise`` and ``attach`` are there for priors that learn from data before training or are made of q;
    ``statistics`` and ``maximise`` for those with a closed-form maximum in EM.
    """

    z_shape: tuple[int, ...]
    support: Constraint = constraints.real_vector
    layered: bool = False

    def __call__(self) -> Distribution:
        """The distribution p(z), in float64 whatever the precision of the parameters."""
        return in_double(super().__call__())

    @property
    def discrete(self) -> bool:
        """True where z takes finitely many values."""
        return self.support.is_discrete

    @property
    def categorical(self) -> bool:
        """True where z is one category, one-hot."""
        return self.support is constraints.one_hot

    @property
    def factored(self) -> bool:
        """True where z is made of several discrete variables: bits, or categories."""
        return self.discrete and not self.categorical

    @property
    def binary(self) -> bool:
        """True where z is made of bits."""
        return getattr(self.support, "base_constraint", None) is constraints.boolean

    @property
    def layers(self) -> tuple[int, ...]:
        """Coordinates of each stochastic layer, the first those that x is made of; z is their concatenation."""
        return self.z_shape

    @abstractmethod
    def forward(self) -> Distribution:
        """The distribution p(z)."""

    def check_shapes(self) -> None:
        """Refuse a distribution of other shapes than the prior says, which torch would tell in the middle of a step.

        Raises:
            UserError: With the shapes that were found and those that are expected.
        """
        p, expected = self(), list(self.z_shape)
        batch, event = list(p.batch_shape), list(p.event_shape)
        if batch or event != expected:
            raise UserError(
                f"{type(self).__name__}.forward() gives a distribution of batch shape {batch} and event shape {event}; "
                f"that of a prior of z_shape {expected} has batch shape [] and event shape {expected}. "
                "torch.distributions.Independent(distribution, 1) makes the last axis of a batch one of an event."
            )

    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        """Choose starting values from training rows; most priors need none."""
        del x

    def attach(self, q: Callable[[Tensor], Distribution]) -> None:
        """Meet the q of the model; only a prior that is made of q keeps it."""
        del q

    def statistics(self, posterior: Distribution) -> dict[str, Tensor]:
        """Sums over a batch of posteriors that determine the best parameters; none if nothing is learned.

        Raises:
            NotImplementedError: If the prior has parameters but no closed-form maximum.
        """
        del posterior
        # any(self.parameters()) would ask tensors of many numbers for their truth
        if any(True for _ in self.parameters()):
            raise NotImplementedError
        return {}

    @property
    def degrees_of_freedom(self) -> int | None:
        """Number of free parameters, for information criteria; ``None`` where it means nothing, as for networks."""
        return None if any(True for _ in self.parameters()) else 0

    @torch.no_grad()
    def maximise(self, statistics: dict[str, Tensor]) -> None:
        """Set the parameters to the maximum that ``statistics`` (summed over all rows) determine."""
        del statistics
