"""Batches of any ``DataLoader``, which know nothing of their rows, as batches of taut."""

from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from taut.data.base import Batch
from taut.errors import UserError
from taut.functional import arrays
from taut.model.likelihood.base import Likelihood


class RowNumbers:
    """Numbers rows in the order in which a loader hands them out, so that every validation meets the same noise.

    Where several processes divide a loader between them they take turns, as Lightning deals.

    Args:
        likelihood: Says what shape x has, and which values.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self._likelihood = likelihood
        self._handed_out = {"train": 0, "val": 0, "test": 0}

    def start(self, stage: str) -> None:
        """Begin an epoch of ``train``, ``val`` or ``test``."""
        self._handed_out[stage] = 0

    def of(self, batch: Any, stage: str, trainer: L.Trainer) -> Batch:
        """A batch that knows its rows: one of taut as it is; one of a plain loader, x or (x, label, ...), numbered.

        Raises:
            UserError: If x is no tensor, of another shape, or outside the likelihood's support.
        """
        # here and not in a hook of the transfer: Lightning warns of each that a data module does not have
        if isinstance(batch, Batch):
            return batch
        x, x_shape = rows_of(batch), self._likelihood.x_shape
        if tuple(x.shape[1:]) != tuple(x_shape):
            raise UserError(
                f"A batch of the loader has an x of shape {list(x.shape)}, and the model takes [b, "
                f"{', '.join(map(str, x_shape))}]; reshape it, and give one DataLoader: a list is several loaders."
            )
        self._likelihood.check(x)
        first, world = self._handed_out[stage], trainer.world_size
        self._handed_out[stage] += len(x)
        index = (first + torch.arange(len(x), device=x.device)) * world + trainer.global_rank
        return Batch(x, index, len(x) * world)


def rows_of(batch: Any) -> Float[Tensor, "b *x"]:
    """The x of a batch of a plain loader, in floats.

    Raises:
        UserError: If it holds none.
    """
    x = batch[0] if isinstance(batch, list | tuple) and len(batch) else batch
    if not isinstance(x, Tensor):
        raise UserError(
            f"A batch of the loader is {type(batch).__name__}; it must be a tensor x of shape [b, ...], or a list or "
            "tuple that begins with it, as a DataLoader of TensorDataset(x, labels) gives."
        )
    return arrays.tensor(x)
