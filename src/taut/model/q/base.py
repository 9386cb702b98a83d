"""Base classes of the variational families."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, TransformedDistribution, biject_to, constraints

from taut.errors import UserError
from taut.functional.missing import column_mean, column_scale, filled, observed
from taut.functional.precision import DoubleBuffers, in_double
from taut.model.building import encoder_of
from taut.model.joint import Joint
from taut.model.prior.base import Prior


class Posterior(DoubleBuffers, ABC):
    """A variational family q(z | x): a module whose forward returns a distribution, batch ``(b,)``, event ``z_shape``.

    A new family implements ``forward``; one with a network subclasses :class:`Amortised`. Every family is built with
    the joint it approximates and the shape of x, and takes from them what it needs.

    Attributes:
        exact: Whether this is the model's own posterior, so that every bound is exact.
        layered: Whether it is a chain of the layers of z (:class:`taut.distributions.chain.Chain`).
    """

    exact: bool = False
    layered: bool = False

    def __init__(self, joint: Joint, x_shape: Sequence[int]) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self._joint = (joint,)  # inside a tuple, so that the joint's parameters stay registered in one place only

    def __call__(self, x: Float[Tensor, "b *x"]) -> Distribution:
        """The distribution q(z | x), in float64 whatever the precision of the network."""
        return in_double(super().__call__(x))

    @property
    def joint(self) -> Joint:
        """The model whose posterior this family approximates."""
        return self._joint[0]

    @property
    def learned(self) -> bool:
        """True where the distribution has parameters that training moves."""
        return any(True for _ in self.parameters())

    @property
    def stratified(self) -> bool:
        """True where reparameterised draws of one datum are not independent, though each has the density of q."""
        return False

    @property
    def borrowed(self) -> nn.Module | None:
        """The part of the model whose parameters are also q's, where there is one."""
        return None

    @abstractmethod
    def forward(self, x: Float[Tensor, "b *x"]) -> Distribution:
        """The distribution q(z | x)."""

    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        """Choose starting values from training rows."""
        del x


class Amortised(Posterior):
    """A family whose parameters are the output of one network of x; a concrete one implements ``distribution``.

    Columns of a table are standardised before they enter the network; pixels enter as they are. Missing cells enter as
    zeros.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        outputs: Number of outputs of the network.
        encoder: Builds the network from ``(x_shape, outputs)``; any module (:mod:`taut.model.building`).

    Attributes:
        sees_mask: Whether the mask enters beside x, as further channels or columns.
    """

    sees_mask: bool = False
    shift: Tensor
    scale: Tensor

    def __init__(self, joint: Joint, x_shape: Sequence[int], outputs: int, encoder: Callable[..., nn.Module]) -> None:
        super().__init__(joint, x_shape)
        first, *others = self.x_shape
        self.encoder = encoder_of(encoder, (2 * first if self.sees_mask else first, *others), outputs)
        self.register_buffer("shift", torch.zeros(self.x_shape, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.x_shape, dtype=torch.float64))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        if len(self.x_shape) == 1:
            self.shift.copy_(column_mean(x))
            self.scale.copy_(column_scale(x))

    @abstractmethod
    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        """The member of the family with these parameters; parameters of 0 are the standard one."""

    def forward(self, x: Float[Tensor, "b *x"]) -> Distribution:
        return self.distribution(self.parameters_of(x))

    def parameters_of(self, x: Float[Tensor, "b *x"]) -> Float[Tensor, "b out"]:
        """The network's output for x."""
        return self.encoder(self.inputs(x))

    def inputs(self, x: Float[Tensor, "b *x"]) -> Float[Tensor, "b *i"]:
        """What enters the network."""
        columns = len(self.x_shape) == 1  # pixels have a scale of their own
        inputs = filled((x - self.shift).div_(self.scale) if columns else x)
        return torch.cat([inputs, observed(x).to(inputs)], -len(self.x_shape)) if self.sees_mask else inputs


def dimension(joint: Joint, family: str) -> int:
    """Length d of a continuous z.

    Raises:
        UserError: If z is discrete.
    """
    if joint.prior.binary:
        raise UserError(
            f"q={family} is for a continuous z, but prior={type(joint.prior).__name__.lower()} makes it binary; choose "
            "q=bernoulli."
        )
    if joint.prior.factored:
        raise UserError(
            f"q={family} is for a continuous z, but prior={type(joint.prior).__name__.lower()} makes it several "
            "categories; choose q=categoricals."
        )
    if joint.prior.discrete:
        raise UserError(
            f"q={family} is for a continuous z, but prior={type(joint.prior).__name__.lower()} makes z a category; "
            "choose q=categorical or q=exact with model=mog, or prior=categoricals q=categoricals."
        )
    return joint.prior.z_shape[0]


def layers_of(joint: Joint, family: str) -> tuple[int, ...]:
    """Coordinates of each layer of z, from that which x is made of to the top.

    Raises:
        UserError: If z has no layers.
    """
    if not joint.prior.layered:
        raise UserError(
            f"q={family} draws the layers of z one after another, but prior={type(joint.prior).__name__.lower()} has "
            "none; choose prior=layers, or q=diagonal."
        )
    return joint.prior.layers


def refuse_bounded(joint: Joint, family: str) -> None:
    """Refuse a z with bounds, for a family whose draws would saturate whatever carries them there.

    Raises:
        UserError: If the prior's support is not all of the space.
    """
    if joint.prior.support is not constraints.real_vector:
        raise UserError(
            f"q={family} is for a z without bounds, but prior={type(joint.prior).__name__.lower()} has them; choose "
            "q=diagonal or q=full."
        )


def kept_clear(mean: Tensor, log_variance: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Bound a Gaussian that is to be carried onto a box: |mean| < 6, log-variance in [-8, 0].

    Further out the sigmoid saturates, and the density of a saturated z is that of a rounding error: a "lower bound"
    made of it has no limit.
    """
    # an unbounded z meets no sigmoid
    if prior.support is constraints.real_vector:
        return mean, log_variance
    return 6 * (mean / 6).tanh(), log_variance.clamp(-8, 0)


def onto_support(q: Distribution, prior: Prior) -> Distribution:
    """Carry an unbounded q onto the prior's support by the standard bijection, where the prior is bounded."""
    if prior.support is constraints.real_vector:
        return q
    return TransformedDistribution(q, [biject_to(prior.support)], validate_args=False)
