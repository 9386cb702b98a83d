"""Means and standard errors over a split, as a torchmetrics shell around sums.

All states are sums in float64, so batches of any size and any number of processes give the same numbers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from taut.errors import RunError
from taut.evaluation import Scores

ACTIVE = 1e-2
"""A latent unit is active where Var_x(E_q[z]) exceeds this (Burda et al., 2016)."""


class Summary(NamedTuple):
    """What a split scored.

    Args:
        n: Number of data.
        scores: By name: ``value``, ``standard_error`` over the data, ``monte_carlo_error`` at fixed x; nats.
        curve: Mean of IWAE-k at every block size.
        curve_errors: Its standard errors over the data.
    """

    n: int
    scores: dict[str, dict[str, float]]
    curve: list[float]
    curve_errors: list[float]


class NotANumber(RunError):
    """A score was NaN or infinite. It is never averaged away."""


class Trained:
    """What training steps report, kept where it is computed: to read it at every step is to wait for the device.

    Args:
        step: Steps that were made before.
        device: Where the bounds are.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.step = torch.tensor(step, device=device)
        self.bad = torch.tensor([-1, -1], device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    def note(self, bound: Float[Tensor, " b"], surrogate: Float[Tensor, ""], index: Int[Tensor, " b"]) -> None:
        """One step: the bounds of its data, what it minimises, and the rows the data are."""
        lost = ~bound.isfinite()
        row = torch.where(lost.any(), index.gather(0, lost.int().argmax(0, keepdim=True)).squeeze(0), -1)
        first = (lost.any() | ~surrogate.isfinite()) & (self.bad[0] < 0)
        self.bad.copy_(torch.where(first, torch.stack([self.step, row]), self.bad))
        self.sums += torch.stack([bound.sum(), surrogate * len(bound)])
        self.step += 1

    def check(self) -> None:
        """Refuse to go on from a bound that is not finite.

        Raises:
            NotANumber: Naming the first row and its step.
        """
        step, row = self.bad.tolist()
        if step >= 0:
            where = f"row {row}" if row >= 0 else "the gradient recipe"
            raise NotANumber(
                f"The training bound of {where} is not finite at step {step}; "
                "lower optimizer.lr, or set trainer.gradient_clip_val."
            )

    def take(self) -> tuple[Tensor, Tensor]:
        """Sums over the data since the last time: of the bound and of the surrogate."""
        bound, surrogate = self.sums.clone()
        self.sums.zero_()
        return bound, surrogate


class ScoreMeter(Metric):
    """Sums of the scores of a split.

    Args:
        names: Names of the scores.
        sizes: Number of points of the bound-versus-K curve.
        z_shape: Shape of one z.
        stage: Name of the split, for messages.

    Raises:
        NotANumber: From ``update``, naming the datum and the stage.
    """

    full_state_update = False
    count: Tensor
    sums: Tensor
    squares: Tensor
    spreads: Tensor
    curve: Tensor
    curve_squares: Tensor
    z: Tensor
    z_squares: Tensor
    z_noise: Tensor

    def __init__(self, names: list[str], sizes: int, z_shape: tuple[int, ...], stage: str) -> None:
        super().__init__()
        self.names, self.stage = names, stage
        shapes = {"count": (), "sums": (len(names),), "squares": (len(names),), "spreads": (len(names),)}
        shapes |= {"curve": (sizes,), "curve_squares": (sizes,), "z": z_shape, "z_squares": z_shape, "z_noise": z_shape}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, scores: Scores, index: Tensor) -> None:
        """Add a batch."""
        values = torch.stack([scores.values[name] for name in self.names])
        bad = (~values.isfinite()).any(0)
        if bad.any():
            column = int(bad.nonzero()[0])
            entry = int((~values[:, column].isfinite()).nonzero()[0])
            raise NotANumber(
                f"{self.stage}/{self.names[entry]} of row {int(index[column])} is {values[entry, column].item()}: "
                "training diverged, or q puts z where the model has no mass; nothing was averaged."
            )
        self.count += values.shape[1]
        self.sums += values.sum(1)
        self.squares += values.square().sum(1)
        self.spreads += torch.stack([scores.noise.get(name, torch.zeros_like(values[0])).sum() for name in self.names])
        self.curve += scores.curve.sum(1)
        self.curve_squares += scores.curve.square().sum(1)
        self.z += scores.mean_z.sum(0)
        self.z_squares += scores.mean_z.square().sum(0)
        self.z_noise += scores.noise_z.sum(0)

    def compute(self) -> Summary:
        """The means over the split, with their errors."""
        values = self.sums / self.count
        errors = _standard_error(self.squares, values, self.count)
        monte_carlo = self.spreads.sqrt() / self.count
        rows = zip(self.names, values.tolist(), errors.tolist(), monte_carlo.tolist(), strict=True)
        scores = {name: {"value": v, "standard_error": e, "monte_carlo_error": m} for name, v, e, m in rows}
        variance = (self.z_squares - self.z_noise) / self.count - (self.z / self.count).square()
        active = (variance > ACTIVE).sum()
        scores["active_units"] = {"value": float(active)}
        mean = self.curve / self.count
        curve_errors = _standard_error(self.curve_squares, mean, self.count)
        return Summary(int(self.count), scores, mean.tolist(), curve_errors.tolist())


def _standard_error(squares: Tensor, mean: Tensor, count: Tensor) -> Tensor:
    variance = (squares / count - mean.square()).clamp_min(0) * count / (count - 1).clamp_min(1)
    return (variance / count).sqrt()
