"""Model and proposal as an estimator of log p(x) sees them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from taut.model import exact_inference
from taut.model.joint import Joint
from taut.model.q.base import Posterior


def innermost(support: Constraint) -> Constraint:
    """The constraint of a single number, under those that tell events and mixtures apart."""
    while (inner := getattr(support, "base_constraint", None)) is not None:
        support = inner
    return support


@dataclass(frozen=True)
class Target:
    r"""A model $p(x, z)$ and a proposal $q(z \mid x)$, as plain callables; nothing of Lightning or Hydra.

    Only the first two are needed; each further one admits the estimators that ask for it. Both are called one datum
    at a time as well as in batches, so a module with dropout or batch normalisation must be in evaluation mode.

    Args:
        log_joint: $\log p(x, z)$ in nats, from x ``[b, *x]`` and z ``[k, b, *z]`` to ``[k, b]``.
        q: $q(z \mid x)$, from x ``[b, *x]`` to a distribution with batch ``(b,)`` and event ``z_shape``.
        prior: $p(z)$, batch ``()``: for z drawn from it, for AIS started from it, for sums over a discrete z.
        exact: $\log p(x)$ in closed form, from x to ``[b]``, where it is known.
        simulate: n pairs (z, x) drawn from the model: for the upper bounds that need a z of the posterior.
        holes: Whether a NaN in x is a missing cell, so that ``log_joint`` is that of the observed ones. Elsewhere a
            NaN is refused.
        posterior: Whether q is said to be the model's own posterior.
        precision: Type of the numbers ``log_joint`` computes with; that of x if not given.
        mass: Whether p(x) is a probability mass, so that a log p(x) above 0 is refused.

    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> prior = Independent(Normal(torch.zeros(2), 1.0), 1)
    >>> log_joint = lambda x, z: prior.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1)
    >>> target = Target(log_joint, q=lambda x: Independent(Normal(x / 2, 0.5**0.5), 1), prior=prior)
    """

    log_joint: Callable[[Tensor, Tensor], Tensor]
    q: Callable[[Tensor], Distribution]
    prior: Distribution | None = None
    exact: Callable[[Tensor], Tensor] | None = None
    simulate: Callable[[int], tuple[Tensor, Tensor]] | None = None
    holes: bool = False
    posterior: bool = False
    precision: torch.dtype | None = None
    mass: bool = False

    @classmethod
    def of(cls, joint: Joint, q: Callable[[Tensor], Distribution]) -> "Target":
        """A model of this package; its prior is built once, not at every call."""
        prior, weights = joint.prior(), list(joint.likelihood.parameters())

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            with constant(weights):
                log_px = joint.likelihood(z).log_prob(x)
            return log_px.double() + prior.log_prob(z).double()

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            z, x = joint.sample(n)
            # what a model of the mask scores is an x with the holes that it makes
            return z, joint.likelihood.hidden(x)

        exact = (lambda x: exact_inference.log_marginal(joint, x)) if exact_inference.tractable(joint) else None
        return cls(
            log_joint,
            q,
            prior,
            exact,
            simulate,
            True,
            _is_posterior(q),
            _precision(joint),
            joint.likelihood.is_mass,
        )

    @property
    def discrete(self) -> bool:
        """True where z is known to take finitely many values."""
        return self.prior is not None and bool(self.prior.has_enumerate_support)


@contextmanager
def constant(weights: Sequence[Tensor]) -> Iterator[None]:
    """Weights whose gradients nobody asks for: those of the last layer take as long as the gradient of z."""
    trained = [weight for weight in weights if weight.requires_grad] if torch.is_grad_enabled() else []
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_()


def _is_posterior(q: Callable[[Tensor], Distribution]) -> bool:
    return isinstance(q, Posterior) and q.exact


def _precision(joint: Joint) -> torch.dtype | None:
    return next((one.dtype for one in joint.parameters() if one.is_floating_point()), None)
