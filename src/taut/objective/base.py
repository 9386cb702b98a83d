"""Base class of the objectives."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from taut.errors import UserError
from taut.functional import seeding
from taut.functional.types import LogWeights, PerDatum
from taut.model.draws import Draws, draw
from taut.model.joint import Joint
from taut.model.q.base import Posterior


class Objective(ABC):
    r"""A bound of $\log p(x)$ and a recipe for its gradient.

    ``bound`` is what is reported, in nats per datum; ``surrogate`` is what is minimised, and its value means nothing.
    A new objective implements both, and refuses in ``check`` what it cannot train.

    Attributes:
        path_only: Whether z is scored under q with q's parameters held constant (Roeder et al., 2017).
        backward: How many of the K draws the backward pass goes through; None for all.
        closed_form: Whether parameters are set by a formula after ``expect``, without draws and without a gradient.
        outer: Number of bounds that the K draws are shared among.
        kind: What ``bound`` is on average: ``lower``, or an ``estimate`` that may lie on either side of log p(x).
    """

    path_only: bool = False
    backward: int | None = None
    closed_form: bool = False
    outer: int = 1
    kind: Literal["lower", "estimate"] = "lower"

    @abstractmethod
    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        r"""The bound of $\log p(x)$ for each datum, nats."""

    @abstractmethod
    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        """The scalar that is minimised: mean over the batch."""

    def draw(self, joint: Joint, q: Posterior, x: Float[Tensor, "b *x"], k: int, kl_weight: float = 1.0) -> Draws:
        r"""The K draws of each datum of a training step, with what ``surrogate`` asks for.

        Whatever they are, each has the density of q, so that ``bound`` may be reported of their weights.

        Args:
            joint: $p(x, z)$.
            q: $q(z \mid x)$.
            x: The batch.
            k: Number of draws K.
            kl_weight: Weight of $\log p(z) - \log q(z \mid x)$ in what is minimised.
        """
        return draw(joint, q, x, k, path_only=self.path_only, kl_weight=kl_weight, backward=self.backward)

    def expect(self, joint: Joint, x: Float[Tensor, "b *x"]) -> PerDatum:
        r"""The step of a closed form, in the place of draws and a gradient: $\log p(x)$ of each datum, nats."""
        raise NotImplementedError

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        """Refuse a combination whose gradient this recipe does not give.

        Raises:
            UserError: Naming the way out.
        """
        del joint
        if not q.exact and not q(x).has_rsample and q.learned and k < 2:
            raise UserError(
                f"objective={self.name} with q={type(q).__name__.lower()} has no reparameterised draws, so its "
                f"gradient needs "
                f"k >= 2 for a leave-one-out baseline, but k={k}; set k=2 or more."
            )

    def initialise(self, joint: Joint, x: Float[Tensor, "n *x"]) -> None:
        """Choose starting values from training rows that suit this recipe, after those of the pieces."""
        del joint, x

    def optimizer(
        self, joint: Joint, parameters: Iterable[Parameter], instantiate: Callable[[Iterable[Parameter]], Optimizer]
    ) -> Optimizer:
        """The optimiser that minimises the surrogate: the configured one."""
        del joint
        return instantiate(parameters)

    def end_of_epoch(self) -> None:
        """Called after the last step of an epoch."""

    @property
    def runs_to_the_end(self) -> bool:
        """True where training is for its last parameters, and not for those of the best validation bound."""
        return False

    @property
    def converged(self) -> bool | None:
        """True once training has come to rest at the tolerance of this objective; ``None`` where it has none."""
        return None

    @property
    def name(self) -> str:
        """The word on the command line: ``vr_iwae`` for a class ``VrIwae``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()


def leave_one_out(signal: LogWeights, baseline: LogWeights, log_qz: LogWeights) -> Float[Tensor, " b"]:
    r"""$\sum_k \mathrm{stop}(\text{signal}_k - \text{baseline}_k) \log q(z_k)$: score-function term of each datum.

    Zero for a single draw, which has no others to form a baseline from.
    """
    return ((signal - baseline).detach() * log_qz).sum(0)


def mean_of_others(values: LogWeights) -> LogWeights:
    r"""$\frac{1}{K-1} \sum_{j \ne k} v_j$ for every k; the value itself where there are no others."""
    k = values.shape[0]
    return (values.sum(0) - values) / (k - 1) if k > 1 else values


def refuse_uneven(objective: Objective, k: int) -> None:
    """Refuse draws that cannot be shared evenly among the bounds of an objective.

    Raises:
        UserError: Naming the way out.
    """
    if k % objective.outer:
        raise UserError(
            f"objective.outer={objective.outer} bounds share the k={k} draws evenly, so k must be a multiple of "
            f"{objective.outer}; set k={8 * objective.outer}, for {objective.outer} bounds of 8 draws each."
        )


def require_score(objective: Objective, q: Posterior, k: int, x: Tensor, instead: str) -> None:
    """Refuse a q whose draws can be reparameterised, and a single draw, which no other is a baseline for.

    Raises:
        UserError: Naming the way out.
    """
    if q(x).has_rsample:
        raise UserError(
            f"objective={objective.name} is for draws that cannot be reparameterised, but those of "
            f"q={type(q).__name__.lower()} can; choose {instead}."
        )
    if k < 2:
        raise UserError(
            f"objective={objective.name} needs k >= 2 for its leave-one-out baseline, but k={k}; set k=2 or more."
        )


def require_paths(objective: Objective, q: Posterior, x: Tensor, setting: str | None = None) -> None:
    """Refuse a q whose draws carry no gradient.

    Args:
        objective: The objective that needs it.
        q: The family.
        x: Some data.
        setting: The setting of the objective that needs it, ``key=value``, where others do not.

    Raises:
        UserError: Naming the way out.
    """
    with torch.no_grad(), seeding.forked(x.device):
        has_rsample = q(x[:1]).has_rsample
    if not has_rsample or q.exact or not q.learned:
        raise UserError(
            f"{setting or f'objective={objective.name}'} needs a q with reparameterised draws and parameters of its "
            f"own, which q={type(q).__name__.lower()} lacks; {_left_out(setting) or _without_paths(q)}."
        )


def _without_paths(q: Posterior) -> str:
    """Words that a model with this z can be trained with where its draws carry no gradient."""
    if q.joint.prior.discrete:
        # a sum over all z has no samples that a baseline could be made of
        return "choose objective=iwae" if q.exact else "choose objective=vimco or iwae, with k=2 or more"
    return "choose objective=iwae, or q=diagonal or q=full"


def _left_out(setting: str | None) -> str:
    return "" if setting is None else f"leave {setting.partition('=')[0]} out"


def require_reparameterised(objective: Objective, q: Posterior, x: Tensor, setting: str | None = None) -> None:
    """Refuse a q whose draws carry no gradient, or that a second look finds changed; arguments of ``require_paths``.

    Raises:
        UserError: Naming the way out.
    """
    require_paths(objective, q, x, setting)
    with torch.no_grad(), seeding.forked(x.device):
        torch.manual_seed(0)
        some = x[:1]
        posterior = q(some)
        z = posterior.sample((2,))
        changed = not torch.allclose(posterior.log_prob(z), q(some).log_prob(z), rtol=1e-4, atol=1e-4, equal_nan=True)
    # scored under the dropout of another look, z would get the gradient of another q
    if changed:
        raise UserError(
            f"{setting or f'objective={objective.name}'} asks q twice for the same x and got two answers, as dropout "
            f"makes them; take the dropout out of the encoder, or {_left_out(setting) or 'choose objective=iwae'}."
        )
