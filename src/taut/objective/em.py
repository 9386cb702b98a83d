"""Expectation maximisation."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import OneHotCategorical
from torch.nn import Parameter
from torch.optim import Optimizer

from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights, PerDatum
from taut.model import exact_inference
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.likelihood.component import Component, Holes
from taut.model.prior.categorical import Categorical
from taut.model.q.base import Posterior
from taut.objective.base import Objective
from taut.objective.exact import require_exact


class Em(Objective):
    r"""Closed-form EM (Dempster, Laird & Rubin, 1977).

    q is set to the posterior, then the model to the best for that q.

    Full batch: sums are collected over the epoch and maximised at its end; $\log p$ never decreases, and training ends
    when it has converged: an epoch changed the mean of $\log p(x)$ by less than a tolerance. Mini-batch:
    stepwise EM (Cappe & Moulines, 2009) blends the sums with step size $(t + 2)^{-a}$ and maximises after every
    batch; it gets near the optimum sooner, and is not monotone.

    Args:
        minibatch: Maximise after every batch instead of every epoch.
        decay: The exponent a in (0.5, 1].
        tolerance: Nats per datum; full batch only.
    """

    closed_form = True

    def __init__(self, *, minibatch: bool = False, decay: float = 0.7, tolerance: float = 1e-6) -> None:
        if not 0.5 < decay <= 1:
            raise UserError(f"objective.decay={decay} must lie in (0.5, 1], or stepwise EM does not converge.")
        self.minibatch, self.decay, self.tolerance = minibatch, decay, tolerance
        self._maximiser: Maximiser | None = None

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        """The negative bound, as a value; there is no gradient to take."""
        return -draws.log_w.detach().mean()

    def expect(self, joint: Joint, x: Float[Tensor, "b *x"]) -> PerDatum:
        log_px, sums = expect(joint, x)
        if self._maximiser is not None:
            self._maximiser.observe(sums, log_px)
        return log_px

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        require_exact(self, q, k)
        try:
            expect(joint, x)
        except NotImplementedError:
            raise UserError(
                f"objective=em has no closed-form maximum for prior={type(joint.prior).__name__.lower()} with "
                f"likelihood={type(joint.likelihood).__name__.lower()}; choose objective=exact."
            ) from None

    def initialise(self, joint: Joint, x: Float[Tensor, "n *x"]) -> None:
        joint.likelihood.start_em(x)

    def optimizer(
        self, joint: Joint, parameters: Iterable[Parameter], instantiate: Callable[[Iterable[Parameter]], Optimizer]
    ) -> Optimizer:
        del instantiate
        self._maximiser = Maximiser(parameters, joint, self.decay if self.minibatch else None)
        return self._maximiser

    def end_of_epoch(self) -> None:
        if self._maximiser is not None and not self.minibatch:
            self._maximiser.end_epoch(self.tolerance)

    @property
    def runs_to_the_end(self) -> bool:
        return not self.minibatch

    @property
    def converged(self) -> bool | None:
        if self.minibatch or self.tolerance == 0 or self._maximiser is None:
            return None
        return self._maximiser.converged


Sums = dict[str, dict[str, Tensor]]

ROWS = 4096
"""Rows of which tables are held at once where a formula needs them, so that memory is flat in N."""


@torch.no_grad()
def expect(joint: Joint, x: Float[Tensor, "b *x"] | Holes) -> tuple[PerDatum, Sums]:
    r"""The E-step: $\log p(x)$ in nats, and the expected sufficient statistics of the batch, by piece of the joint.

    Args:
        joint: The model.
        x: Data; of a table of Gaussians also what its ``prepared`` has made of them.

    Raises:
        NotImplementedError: If a piece has no closed-form maximum.
    """
    prior, likelihood = joint.prior, joint.likelihood
    if isinstance(prior, Categorical) and isinstance(likelihood, Component):
        weights = prior()
        assert isinstance(weights, OneHotCategorical)
        log_px, sums = likelihood.expect(x, weights.logits)
        return log_px, {"prior": {"counts": sums["counts"]}, "likelihood": sums}
    assert isinstance(x, Tensor)
    parts = [_expect(joint, rows) for rows in x.split(ROWS)]
    return torch.cat([log_px for log_px, _ in parts]), reduce(_add, (sums for _, sums in parts))


def _expect(joint: Joint, x: Tensor) -> tuple[PerDatum, Sums]:
    log_px, posterior = exact_inference.log_marginal_and_posterior(joint, x)
    prior, likelihood = joint.prior.statistics(posterior), joint.likelihood.statistics(x, posterior)
    return log_px, {"prior": prior, "likelihood": likelihood}


def _add(one: Sums, other: Sums) -> Sums:
    return blend(one, other, 1.0, 1.0)


def blend(old: Sums, new: Sums, a: float, b: float) -> Sums:
    """A * old + b * new, entry by entry."""
    return {
        piece: {name: a * old[piece][name] + b * value for name, value in sums.items()} for piece, sums in new.items()
    }


@dataclass
class Evidence:
    r"""The mean of $\log p(x)$ over the rows of an epoch, in nats, and over those of the one before."""

    total: float = 0.0
    rows: int = 0
    last: float = -math.inf

    def add(self, log_px: PerDatum) -> None:
        """Some of the rows."""
        self.total += log_px.sum().item()
        self.rows += len(log_px)

    def settled(self, tolerance: float) -> bool:
        """Tell whether the mean has changed by less than this, and begin the next epoch."""
        mean = self.total / self.rows
        change, self.last = abs(mean - self.last), mean
        self.total, self.rows = 0.0, 0
        return change < tolerance


class Maximiser(Optimizer):
    """The M-step in the place of an optimiser, so that checkpoints, step counts and loops are those of any training.

    Args:
        parameters: The parameters of the model (they are set, not moved).
        joint: The model.
        decay: Exponent of stepwise EM, or None for full batch.
    """

    def __init__(self, parameters: Iterable[Parameter], joint: Joint, decay: float | None) -> None:
        super().__init__(parameters, {})
        self.joint, self.decay = joint, decay
        self.sums: Sums = {}
        self.batches = 0
        self.evidence = Evidence()
        self.converged = False

    def observe(self, new: Sums, log_px: PerDatum) -> None:
        """Add the expected sums of some rows: whole, or blended with step size (t + 2)^-decay and per row."""
        rows = len(log_px)
        if self.decay is None:
            self.evidence.add(log_px)
            self.sums = _add(self.sums, new) if self.sums else new
            return
        rate = (self.batches + 2) ** -self.decay if self.batches else 1.0
        self.sums = blend(self.sums or new, new, 1.0 - rate, rate / rows)
        self.batches += 1

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Run the E-step; in stepwise EM also maximise."""
        # Lightning hands the training step, and the E-step in it, over as the closure
        loss = closure() if closure is not None else None
        if self.decay is not None:
            self.maximise()
        return loss

    def end_epoch(self, tolerance: float) -> None:
        """Maximise, and see whether the parameters that this epoch began with were better than those before it."""
        self.converged = self.evidence.settled(tolerance)
        self.maximise()

    def maximise(self) -> None:
        """Set the joint to the maximum for the collected sums."""
        self.joint.prior.maximise(self.sums["prior"])
        self.joint.likelihood.maximise(self.sums["likelihood"])
        if self.decay is None:
            self.sums = {}

    def state_dict(self) -> dict[str, Any]:
        # the sums of an unfinished epoch belong to a checkpoint, so that a resumed run loses none of them
        own = {"sums": self.sums, "batches": self.batches, "converged": self.converged}
        return {"state": {}, "param_groups": [], **own, "evidence": vars(self.evidence)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # a checkpoint may come from another device
        device = self.param_groups[0]["params"][0].device
        self.sums = {
            piece: {name: value.to(device) for name, value in sums.items()}
            for piece, sums in state_dict["sums"].items()
        }
        self.batches, self.converged = state_dict["batches"], state_dict["converged"]
        self.evidence = Evidence(**state_dict["evidence"])
