"""Training without a command: pieces built in Python, data in memory, and a trainer that is quiet and writes nothing.

It is Lightning's trainer and not a loop of our own: the steps, the noise of each, the M-steps of EM and the test for
convergence are those of ``train.py``, and end in the same bits on a CPU.
"""

# pyright: strict, reportUnknownMemberType=false
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from taut.api.model import Model, refuse_unsupported
from taut.data.base import Data, Splits
from taut.data.mask.cells import FromData
from taut.errors import RunError, UserError
from taut.functional import seeding
from taut.functional.arrays import Array, Kind, matrix
from taut.runtime import devices
from taut.runtime.untouched import untouched
from taut.training.callbacks.progress import EpochBar
from taut.training.module import LatentVariableModel

IN_PYTHON = {
    "optimizer.lr, or set trainer.gradient_clip_val": "lr",
    "optimizer.lr": "lr",
    "set likelihood.levels=<L>, or [<L1>,<L2>,...]": (
        "give likelihood=functools.partial(<its class>, levels=<L>), or levels=[<L1>,<L2>,...]"
    ),
    "likelihood.covariance": "covariance_type",
    "likelihood.min_variance": "min_variance",
}
"""Keys of the command line in messages of the pieces, and what the argument of an estimator is called."""


class Rows(Data):
    """Rows in memory, which are trained on as they are.

    Args:
        x: The rows; NaN is a missing cell.
        batch_size: Rows of a step; ``None`` for all at once.
        seed: Seed of their order.
    """

    name: ClassVar[str] = "x"

    def __init__(self, x: Tensor, batch_size: int | None, seed: int) -> None:
        mask = FromData() if x.isnan().any() else None
        super().__init__(batch_size=batch_size, shuffle=batch_size is not None, seed=seed, mask=mask)
        self.x = x

    def load(self) -> Splits:
        return Splits(self.x, self.x, self.x)


def fitted(
    build: Callable[[tuple[int, ...]], LatentVariableModel],
    x: Array,
    *,
    batch_size: int | None,
    max_epochs: int,
    seed: int,
    device: str = "cpu",
    double: bool = False,
    progress: bool = False,
) -> Model:
    """Build a model, start it from the rows, and train it.

    Args:
        build: Makes the model of data of a shape.
        x: Data, in main memory or where they will be used.
        batch_size: Rows of a step; ``None`` for all at once.
        max_epochs: Passes over the data, at most.
        seed: Seed of the first weights, of the order and of all noise.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        double: Compute in float64.
        progress: Show a bar.

    Raises:
        UserError: If the pieces do not go together, or not with the data.
        RunError: If training diverged.
    """
    rows, kind = matrix(x), replace(Kind.of(x), index=None)  # what is sampled is none of these rows
    data = Rows(rows.cpu(), batch_size, seed)
    with untouched(torch.float64 if double else torch.float32):
        try:
            model = _started(build, data, seed)
            chosen = _device(device)
            trainer = _trainer(chosen, max_epochs, double=double, progress=progress)
            trainer.fit(model, datamodule=data)
        except (UserError, RunError) as error:
            raise type(error)(in_python(str(error))) from error
        except SystemExit as error:
            # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from error
    for sentence in model.divergence():
        warnings.warn(in_python(sentence), RuntimeWarning, stacklevel=3)
    return Model(model.to(chosen), kind)


def in_python(sentence: str) -> str:
    """A message with the arguments of an estimator in the place of keys of the command line."""
    for key, argument in IN_PYTHON.items():
        sentence = sentence.replace(key, argument)
    return sentence


def _started(build: Callable[[tuple[int, ...]], LatentVariableModel], data: Rows, seed: int) -> LatentVariableModel:
    # by the same key as a run, whose first weights these are
    seeding.seed(seeding.key(seed, "initial", 0), torch.device("cpu"))
    model = build(data.x_shape)
    refuse_unsupported(model.joint.likelihood, data.x)
    model.initialise(data.starting_rows(), len(data.stored.train))
    return model


def _device(device: str) -> torch.device:
    if device == "auto":
        # no other accelerator has float64, in which z is drawn
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UserError(f"device={device!r} is not known; choose cpu, cuda or auto.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device='cuda' needs a GPU that torch can use, and there is none; choose device='cpu'.")
    return torch.device(device)


def _trainer(device: torch.device, max_epochs: int, *, double: bool, progress: bool) -> L.Trainer:
    warnings.simplefilter("ignore")  # about loggers, workers and steps that are as they should be here
    plugins: list[Any] = [devices.environment()]
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="64-true" if double else "32-true",
        max_epochs=max_epochs,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[EpochBar()] if progress else [],
        enable_progress_bar=progress,
        # nothing is written
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        plugins=plugins,
    )
