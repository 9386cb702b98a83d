"""Means and standard errors over a split, as a torchmetrics shell around sums.

All states are moments in float64 that merge, so batches of any size and any number of processes give the same numbers.
"""

import math
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import OneHotCategorical
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from taut.data.base import Data
from taut.data.disk_rows import DiskRows
from taut.errors import RunError
from taut.evidence.diagnostics import ACTIVE
from taut.evidence.score import Scores, names_of_layers
from taut.functional.bits import Bits
from taut.functional.consistency import Judge, Value, Void
from taut.functional.statistics import Moments
from taut.model import exact_inference
from taut.model.joint import Joint
from taut.model.likelihood.base import Likelihood


class Summary(NamedTuple):
    """Scores of a split.

    Args:
        n: Number of data.
        scores: By name: ``value``, ``standard_error`` over the data, ``monte_carlo_error`` at fixed x; nats.
        curve: Mean of IWAE-k at every block size.
        curve_errors: Its standard errors over the data.
        details: Of each datum, in any order, what :data:`taut.evidence.score.DETAILS` lists; None where it was not
            asked.
    """

    n: int
    scores: dict[str, dict[str, Any]]
    curve: list[float]
    curve_errors: list[float]
    details: Float[Tensor, "n 5"] | None = None


def bits_of(likelihood: Likelihood, data: Data) -> Bits | None:
    """How log p(x) of these data is bits per dimension; ``None`` where nobody counts in bits.

    That is, of a density of numbers that are no levels or that stand on them, of observed cells, whose number differs,
    and of zeros and ones.
    """
    dimensions = prod(data.x_shape)
    if data.mask is not None:
        return None
    if data.dequantise:
        return Bits(dimensions, data.scale.count, "dequantised")
    if likelihood.is_mass and not likelihood.binary:
        return Bits(dimensions, 1, "counts" if likelihood.values is None else "levels")
    return None


class NotANumber(RunError):
    """A score was NaN or infinite. It is never averaged away."""


class TrainingMonitor:
    """Sums over the training steps of an epoch, kept on the device: to read them at every step is to wait for it.

    Args:
        step: Steps that were made before.
        device: Where the bounds are.
    """

    def __init__(self, step: int, device: torch.device) -> None:
        self.step = torch.tensor(step, device=device)
        self.bad = torch.tensor([-1, -1], device=device)
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget the steps of the last epoch."""
        # in place: a CUDA graph adds to this buffer
        self.sums.zero_()
        self._taken = self.sums.clone()

    def state_dict(self) -> dict[str, Any]:
        """The epoch so far, for a run that goes on within it."""
        return {"sums": torch.stack([self.sums, self._taken]).cpu()}

    @staticmethod
    def share_of(ranks: list[dict[str, Any]], rank: int, world: int) -> dict[str, Any] | None:
        """The state of one process among those of all that began an epoch; of another number the first takes all."""
        if len(ranks) == world:
            return ranks[rank]
        if rank > 0:
            return None
        return {"sums": torch.stack([state["sums"] for state in ranks]).sum(0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an epoch."""
        sums, taken = state["sums"].to(self.sums)
        self.sums.copy_(sums)
        self._taken = taken.clone()

    def note(self, bound: Float[Tensor, " b"], surrogate: Float[Tensor, ""], index: Int[Tensor, " b"]) -> None:
        """One step: the bounds of its data, what it minimises, and the rows the data are."""
        bound, rows = bound.double(), len(bound)
        total, squares = bound.sum(), torch.dot(bound, bound)
        if bound.device.type == "cpu":  # where numbers of Python cost less than the smallest tensors
            sums = total.item(), surrogate.item() * rows, squares.item(), float(rows)
            bad, sums = not math.isfinite(sum(sums)), torch.tensor(sums, dtype=torch.float64)
        else:  # always looked for: to read a number is to wait for the device
            bad, sums = True, torch.stack([total, surrogate * rows, squares, total.new_full((), rows)])
        if bad:
            self._look(bound, surrogate, index)
        # in place: a CUDA graph replays these kernels on these buffers
        self.sums += sums
        self.step += 1

    def _look(self, bound: Float[Tensor, " b"], surrogate: Float[Tensor, ""], index: Int[Tensor, " b"]) -> None:
        """Note the first step, and its first row, with a number that is not finite."""
        lost = ~bound.isfinite()
        # no branch, for the same reason
        row = torch.where(lost.any(), index.gather(0, lost.int().argmax(0, keepdim=True)).squeeze(0), -1)
        first = (lost.any() | ~surrogate.isfinite()) & (self.bad[0] < 0)
        self.bad.copy_(torch.where(first, torch.stack([self.step, row]), self.bad))

    def check(self) -> None:
        """Refuse to go on from a bound that is not finite.

        Raises:
            NotANumber: Naming the first row and its step.
        """
        step, row = self.bad.tolist()
        if step >= 0:
            where = f"row {row}" if row >= 0 else "the gradient recipe"
            raise NotANumber(
                f"Training diverged: the training bound of {where} is not finite at step {step}; "
                "lower optimizer.lr, or set trainer.gradient_clip_val."
            )

    @property
    def recent(self) -> Float[Tensor, " 4"]:
        """Sums over the data since they were last taken: the bound, the surrogate, the bound squared, and 1."""
        return self.sums - self._taken

    def take(self) -> Float[Tensor, " 4"]:
        """The same sums over the data of the epoch so far."""
        self._taken = self.sums.clone()
        return self._taken

    def refuse_above_mass(self, count: int, epoch: int, checks: int) -> None:
        """Refuse to go on from bounds of a probability mass whose mean since they were last taken is above 0.

        Args:
            count: Number of data since then.
            epoch: Number of the epoch, counted from 1.
            checks: How often this has been asked, this time included.

        Raises:
            Void: Naming the epoch and what to do.
        """
        if count < 2:
            return  # one draw does not tell how draws differ
        total, _, squares, _ = self.recent.tolist()
        mean = total / count
        # rounding can make the difference negative
        spread = max(squares - count * mean * mean, 0.0) / (count - 1)  # over the data, which is wider than the noise
        error = math.sqrt(spread / count)
        judge = Judge(count, count - 1, checks)
        sentence = judge.above_mass(Value("the training bound", "lower", mean, error), f"epoch {epoch}")
        if sentence is not None:
            raise Void(f"{sentence[:-1]}. Training stops here.")


class EpochMean(Metric):
    """The mean over the data of an epoch, of all processes, from the sums that each of them keeps.

    Lightning's own mean weighs the reports of an epoch, which it keeps in single precision and not in checkpoints: a
    run that goes on within an epoch would tell of its second part alone.
    """

    full_state_update = False
    total: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "rows"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, total: Tensor, rows: Tensor) -> None:
        """The sums so far take the place of those before."""
        self.total, self.rows = total, rows

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / self.rows

    def __float__(self) -> float:
        return self.compute().item()


class ScoreMeter(Metric):
    """Moments of the scores of a split.

    Args:
        names: Names of the scores.
        sizes: Number of points of the bound-versus-K curve.
        layers: Coordinates of each layer of z.
        stage: Name of the split, for messages.

    Raises:
        NotANumber: From ``update``, naming the datum and the stage.
    """

    full_state_update = False
    count: Tensor
    mean: Tensor
    squares: Tensor
    spreads: Tensor
    z_noise: Tensor
    details: list[Tensor]

    def __init__(self, names: list[str], sizes: int, layers: tuple[int, ...], stage: str) -> None:
        super().__init__()
        self.names, self.sizes, self.layers, self.stage = names, sizes, layers, stage
        columns = len(names) + sizes + sum(layers)
        for name, shape in {"count": (), "mean": (columns,), "squares": (columns,)}.items():
            # moments of several processes are merged together, not one by one as torchmetrics reduces states
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx=None)
        for name, shape in {"spreads": (len(names),), "z_noise": (sum(layers),)}.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("details", [], dist_reduce_fx="cat")

    def update(self, scores: Scores, index: Tensor) -> None:
        """Add a batch, which may be empty where a split has fewer rows than there are processes."""
        values = torch.stack([scores.values[name] for name in self.names])
        self._refuse_nan(values, index)
        if scores.details is not None:
            self.details.append(scores.details.T)
        if not values.shape[1]:
            return
        columns = torch.cat([values, scores.curve, scores.mean_z.flatten(1).T])
        moments = Moments.merged([self._moments(), Moments.of(columns.T)])
        self.count, self.mean, self.squares = moments
        self.spreads += torch.stack([scores.noise.get(name, torch.zeros_like(values[0])).sum() for name in self.names])
        self.z_noise += scores.noise_z.flatten(1).sum(0)

    def compute(self) -> Summary:
        """The means over the split, with their errors."""
        moments = self._moments()
        names, curve, z = (slice(*ends) for ends in pairwise([0, len(self.names), len(self.names) + self.sizes, None]))
        errors = moments.standard_error.nan_to_num(0.0)
        monte_carlo = self.spreads.sqrt() / moments.count
        rows = zip(self.names, moments.mean[names].tolist(), errors[names].tolist(), monte_carlo.tolist(), strict=True)
        unknown = int(moments.count) < 2  # one datum does not tell how data differ
        scores: dict[str, dict[str, Any]] = {
            name: {"value": v, "standard_error": None if unknown else e, "monte_carlo_error": m}
            for name, v, e, m in rows
        }
        variance = (moments.squares[z] - self.z_noise) / moments.count  # of E_q[z], less the noise it is known with
        active = variance > ACTIVE
        scores["active_units"] = {"value": float(active.sum())}
        if len(self.layers) > 1:
            names_of_them = names_of_layers("active_units", len(self.layers))
            counts = [float(part.sum()) for part in active.split(self.layers)]
            scores |= {name: {"value": count} for name, count in zip(names_of_them, counts, strict=True)}
        details = dim_zero_cat(self.details) if len(self.details) else None
        return Summary(int(moments.count), scores, moments.mean[curve].tolist(), errors[curve].tolist(), details)

    def _moments(self) -> Moments:
        """Those of all processes, which stand behind one another once they have been gathered."""
        if self.count.dim() == 0:
            return Moments(self.count, self.mean, self.squares)
        return Moments.merged([Moments(*each) for each in zip(self.count, self.mean, self.squares, strict=True)])

    def _refuse_nan(self, values: Tensor, index: Tensor) -> None:
        bad = (~values.isfinite()).any(0)
        if bad.any():
            column = int(bad.nonzero()[0])
            entry = int((~values[:, column].isfinite()).nonzero()[0])
            raise NotANumber(
                f"{self.stage}/{self.names[entry]} of row {int(index[column])} is {values[entry, column].item()}: "
                "training diverged, or q puts z where the model has no mass; nothing was averaged."
            )


ROWS = 4096
"""Rows of which tables are held at once."""


@torch.no_grad()
def criteria(joint: Joint, x: Float[Tensor, "n *x"] | DiskRows) -> dict[str, Any] | None:
    r"""BIC, AIC and ICL of a model at the maximum of its likelihood on these rows; lower is better, as in scikit-learn.

    With $\ell = \sum_n \log p(x_n)$, of the observed cells where some are missing, and p free parameters:

    - $\mathrm{BIC} = -2 \ell + p \log n$ (Schwarz, 1978) and $\mathrm{AIC} = -2 \ell + 2 p$ (Akaike, 1974);
    - $\mathrm{ICL} = \mathrm{BIC} + 2 \sum_n H(p(z \mid x_n))$ (Biernacki, Celeux & Govaert, 2000), where z is a
      category: it counts clusters, and components that overlap are no two.

    Args:
        joint: A model whose $\log p(x)$ has a closed form.
        x: The rows it was trained on.

    Returns:
        ``log_likelihood`` (nats, of all rows), ``n``, ``parameters``, ``bic``, ``aic`` and ``icl``, which is ``None``
        where z is no category; ``None`` for a model whose number of free parameters means nothing, as of networks.
    """
    free = [piece.degrees_of_freedom for piece in (joint.prior, joint.likelihood)]
    if None in free:
        return None
    total, entropy = 0.0, 0.0
    # in parts, because the posterior of all rows at once may not fit the memory
    for rows in x.split(ROWS):
        log_px, posterior = exact_inference.log_marginal_and_posterior(joint, rows)
        total += log_px.double().sum().item()
        if isinstance(posterior, OneHotCategorical):
            entropy += OneHotCategorical(logits=posterior.logits.double()).entropy().sum().item()
    n, parameters = len(x), sum(count for count in free if count is not None)
    bic = -2 * total + parameters * math.log(n)
    return {
        "log_likelihood": total,
        "n": n,
        "parameters": parameters,
        "bic": bic,
        "aic": -2 * total + 2 * parameters,
        "icl": bic + 2 * entropy if joint.prior.discrete else None,
    }
