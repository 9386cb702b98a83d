"""A trained model as it is used in Python, arrays in, arrays of the same kind out, and the run it is read back from."""

# pyright: strict, reportUnknownMemberType=false
import html
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.distributions import Distribution

from taut.config.run_folder import RESULT, read_result
from taut.data.base import Data
from taut.errors import UserError
from taut.evidence import Evidence, Exact, Importance, LogEvidence, Target
from taut.functional import seeding
from taut.functional.arrays import Array, Kind, is_frame, matrix, tensor, whole
from taut.functional.precision import exact_arithmetic
from taut.functional.sampling import NoiseKeys
from taut.model.draws import draw_keyed
from taut.model.likelihood.base import Likelihood
from taut.report.numbers import number
from taut.runtime.untouched import untouched
from taut.training.module import LatentVariableModel
from taut.training.stored_run import Run as StoredRun

ROWS = 1024
"""Rows that go through a network at once."""
K_MEAN = 512
"""Draws of a z whose mean q does not know."""
TORCH = Kind("torch", torch.float32, torch.device("cpu"))


class Model:
    r"""A trained $p(x, z) = p(z)\, p(x \mid z)$ and its $q(z \mid x)$.

    Every method takes numpy arrays, data frames of pandas or tensors of torch, and gives back the same kind. Columns of
    a data frame are found by their names where the model knows them. Nothing is drawn from the caller's generators: the
    same seed gives the same numbers.

    Args:
        module: The LightningModule, whose parts are ``joint`` (``prior`` and ``likelihood``) and ``q``.
        kind: What ``sample`` gives: the kind of what the model was trained on; tensors in main memory by default.
        columns: Names of the columns of the table it was trained on, by which those of data frames are found.
    """

    def __init__(self, module: LatentVariableModel, kind: Kind = TORCH, columns: Sequence[str] | None = None) -> None:
        self.module, self.kind = module.eval().requires_grad_(False), kind
        named = kind.columns if columns is None else tuple(columns)
        # a frame without names has numbers for them
        self.columns = named if named and all(isinstance(name, str) for name in named) else None

    def __repr__(self) -> str:
        joint = self.module.joint
        parts = {"prior": joint.prior, "likelihood": joint.likelihood, "q": self.module.q}
        words = ", ".join(f"{name}={type(part).__name__.lower()}" for name, part in parts.items())
        return f"{type(self.module).__name__}({words}, x_shape={list(self.x_shape)}, z_shape={list(self.z_shape)})"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of one datum."""
        return tuple(self.module.joint.likelihood.x_shape)

    @property
    def z_shape(self) -> tuple[int, ...]:
        """Shape of one z: ``(d,)``, or ``(C,)`` where z is one of C categories, one-hot."""
        return tuple(self.module.joint.prior.z_shape)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(iter(self.module.state_dict().values())).device

    def q(self, x: Array) -> Distribution:
        r"""$q(z \mid x)$: a distribution of torch with batch ``(n,)`` and event ``z_shape``, in float64."""
        with self._computing():
            return self.module.q(self._rows(x))

    def sample(self, n: int = 1, *, seed: int = 0) -> Array:
        """Draws of p(x), shape ``[n, *x_shape]``; those of another seed are independent."""
        return self.kind.restored(self.draw(n, seed)[1])

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """The n pairs (z, x) behind ``sample``, as tensors."""
        n = whole("n", n)
        with self._computing():
            seeding.seed(seeding.key(seed, "sample", 0), self.device)
            return self.module.joint.sample(n)

    def encode(self, x: Array) -> Array:
        r"""$E_q[z \mid x]$, shape ``[n, *z_shape]``: of a mixture the probability of each component."""
        with self._computing():
            return Kind.of(x).restored(self._in_parts(self._mean_z, self._rows(x)), names="z")

    def decode(self, z: Array) -> Array:
        r"""$E[x \mid z]$ of each z, shape ``[n, *x_shape]``: of pixels the probability of a one."""
        rows = tensor(z, "z")
        if tuple(rows.shape[1:]) != self.z_shape or not len(rows):
            raise UserError(f"z has shape {list(rows.shape)}; the model decodes rows of shape {list(self.z_shape)}.")
        with self._computing():
            means = self._in_parts(self._mean_x, rows.to(self.device, torch.float64))
        return Kind.of(z).restored(means, names=self.columns or "x")

    def reconstruct(self, x: Array) -> Array:
        r"""$E[x \mid z]$ at $z = E_q[z \mid x]$, shape ``[n, *x_shape]``."""
        with self._computing():
            rows = self._rows(x)
            means = self._in_parts(lambda part: self._mean_x(self._mean_z(part)), rows)
            return Kind.of(x).restored(means, names=self._names_in(x))

    def log_evidence(self, x: Array, *, k: int = 5000, seed: int = 0, estimator: Evidence | None = None) -> LogEvidence:
        r"""$\log p(x)$ of each datum in nats, with what kind of number it is, its errors and its diagnostics.

        Exact where the model has it in closed form; else a lower bound on average, $L_K$ by importance sampling from q
        (Burda, Grosse & Salakhutdinov, 2016). The value of a datum depends on its row and the seed, and on no other.

        Args:
            x: Data; NaN is a missing cell, and the value then that of the observed ones.
            k: Number of importance samples K.
            seed: Seed of the noise.
            estimator: Another one of :mod:`taut.evidence`, e.g. ``taut.evidence.AIS()``.

        Returns:
            ``kind``, ``value`` and ``variance`` of each datum, ``mean``, ``standard_error`` over the data,
            ``monte_carlo_error``, ``diagnostics`` and ``curve``.

        Raises:
            UserError: If an argument is out of range, or the estimator does not fit the model.
            RunError: If the result is one that cannot be.
        """
        k = whole("k", k)
        rows = self._rows(x)
        with self._computing():
            target = Target.of(self.module.joint, self.module.q)
            if estimator is None:
                exact = target.exact is not None or target.discrete
                estimator = Exact() if exact else Importance(k)
            return estimator(target, rows, seed=seed).cpu()

    def score_samples(self, x: Array, *, k: int, seed: int = 0) -> Array:
        """The values of ``log_evidence`` alone, in the kind of x: numbers, a series, or a tensor."""
        return Kind.of(x).restored(self.log_evidence(x, k=k, seed=seed).value, names="log_px")

    def _rows(self, x: Array) -> Tensor:
        names = self._names_in(x)
        rows = matrix(x if names is None else x[list(names)], self.x_shape).to(self.device)
        refuse_unsupported(self.module.joint.likelihood, rows)
        return rows

    def _names_in(self, x: Array) -> tuple[str, ...] | None:
        """The columns of the model where x is a data frame that has them, whatever their order and whatever others."""
        if self.columns is None or not is_frame(x) or not all(isinstance(name, str) for name in x.columns):
            return None
        lacking = [name for name in self.columns if name not in x.columns]
        if lacking:
            raise UserError(
                f"x lacks the column {lacking[0]}; the model was trained on {', '.join(self.columns)}: give these, or "
                "an array of numbers in this order."
            )
        return self.columns

    def _mean_x(self, z: Tensor) -> Tensor:
        return self.module.joint.likelihood(z.unsqueeze(0)).mean[0]

    def _mean_z(self, x: Tensor) -> Tensor:
        q = self.module.q(x)
        try:
            return q.mean
        except NotImplementedError:  # a q carried onto a box
            keys = NoiseKeys(torch.arange(len(x), device=x.device), 0, "encode")
            total = x.new_zeros((len(x), *self.z_shape), dtype=torch.float64)
            for drawn in draw_keyed(lambda rows: self.module.q(x[rows]), keys, K_MEAN):
                total[drawn.rows] += drawn.z.sum(0) / K_MEAN
            return total

    @staticmethod
    def _in_parts(change: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        parts = cast(tuple[Tensor, ...], rows.split(ROWS))  # torch has no type for it
        return torch.cat([change(part) for part in parts])

    @contextmanager
    def _computing(self) -> Generator[None]:
        """No graph, IEEE arithmetic, and a process that is left as it was."""
        with untouched(), exact_arithmetic(self.device):
            yield


def refuse_unsupported(likelihood: Likelihood, x: Tensor) -> None:
    """Refuse data that a likelihood gives no density to.

    Raises:
        UserError: With what to do: how grey pixels are made binary is part of every score, so nothing chooses it.
    """
    grey = x[(x != 0) & (x != 1) & ~x.isnan()] if likelihood.binary else x[:0]
    if len(grey):
        raise UserError(
            f"x holds {grey[0].item():.6g}, and likelihood={type(likelihood).__name__.lower()!r} is for zeros and "
            "ones; make grey pixels in [0, 1] binary first, by x > 0.5 or by draws, rng.random(x.shape) < x, or choose "
            "likelihood='gaussian'."
        )
    likelihood.check(x)


class Run:
    """A run, read back from its folder.

    Args:
        stored: The folder and its config.
        model: The trained model.
        data: The data of the run.
        checkpoint: What the checkpoint says of itself.

    Attributes:
        folder: Where it is.
        name: The run in one line: model, data, binarisation, prior, q, k and seed.
        config: The composed config; reading alone.
        model: The trained :class:`~taut.api.model.Model`, with the weights of the best validation bound.
        data: Its :class:`~taut.data.base.Data`; ``data.rows_of("test")`` are the rows it is tested on.
        checkpoint: File, epoch and step of the weights.
        result: What ``result.json`` says, every score with its kind and errors; empty where training has not ended.
    """

    def __init__(self, stored: StoredRun, model: Model, data: Data, checkpoint: dict[str, Any]) -> None:
        self.stored, self.model, self.data, self.checkpoint = stored, model, data, checkpoint
        self.folder, self.name = stored.folder, stored.name
        self.config: DictConfig = stored.cfg.copy()
        OmegaConf.set_readonly(self.config, True)
        self.result: dict[str, Any] = read_result(stored.folder) if (stored.folder / RESULT).exists() else {}

    def __repr__(self) -> str:
        lines = [f"taut run: {self.name}", f"  {self.folder}", f"  {self._weights}"]
        for name, *numbers, what in self._rows():
            lines.append(f"  {name:<10}{''.join(f'{each:>14}' for each in numbers)}  {what}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        left, right = ('<td style="text-align: left">', '<td style="text-align: right">')
        rows = "".join(
            f"<tr>{left}{name}</td>{''.join(f'{right}{n}</td>' for n in numbers)}{left}{what}</td></tr>"
            for name, *numbers, what in (map(html.escape, row) for row in self._rows())
        )
        heading = f"<b>{html.escape(self.name)}</b><br><code>{html.escape(str(self.folder))}</code>"
        return f"<div>{heading}<br>{html.escape(self._weights)}<table><tbody>{rows}</tbody></table></div>"

    @property
    def _weights(self) -> str:
        epoch, step = self.checkpoint["epoch"], self.checkpoint["step"]
        return f"weights of {self.checkpoint['file']}: epoch {epoch}, step {step}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """The scores on the test split, in nats per datum: name, value, both errors, and what kind of number it is."""
        scores: dict[str, dict[str, Any]] = self.result.get("scores", {})
        if scores:
            yield "score", "value", "s.e. (data)", "s.e. (MC)", f"{self.result['split']} split, nats per datum"
        for name, words in {"elbo": "ELBO", "bound": "bound", "log_px": "log p(x)", "gap": "gap"}.items():
            score = scores.get(name)
            if score is not None and score.get("value") is not None:
                k = "" if score.get("k") is None else f", K = {score['k']}"
                kind = "at least" if name == "gap" and score["kind"] == "lower" else score["kind"]
                numbers = (score.get(key) for key in ("value", "standard_error", "monte_carlo_error"))
                yield words, *map(number, numbers), f"{kind}{k}"


def load(folder: str | Path, *, trust: str | Sequence[str] = (), files: Mapping[str, str] | None = None) -> Run:
    """Read a run back: its config, its data, and its model with the weights of the best validation bound.

    Checkpoints are not unpickled, and a folder is read as one of a stranger: see ``trust``.

    Args:
        folder: The run folder.
        trust: Packages whose classes the run may build, beside those of taut: name those that you know.
        files: Where files of the run are now, by key, e.g. ``{"data.path": "my.csv"}``, if they have moved.

    Raises:
        UserError: If it is not the folder of a run, or damaged, or of another version, or its data are not found.
    """
    path = Path(folder)
    stored = StoredRun.open(path, files, said=str(path), trust=trust)
    with untouched(stored.precision):
        module, data, checkpoint = stored.load()
    return Run(stored, Model(module, columns=data.columns), data, checkpoint)
