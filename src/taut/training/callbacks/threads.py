"""CPU threads of the training steps, and of the scores between them."""

from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from taut.functional import seeding
from taut.model.draws import draw
from taut.runtime.threads import of_step
from taut.training.module import LatentVariableModel


class Threads(Callback):
    """Gives a training step as many threads as it is worth, and scores all there are.

    Args:
        x: A row of the data.
        batch_size: Rows of a step.
    """

    def __init__(self, x: Tensor, batch_size: int) -> None:
        self.x, self.batch_size = x, batch_size
        self.of_scores = self.of_step = torch.get_num_threads()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        del trainer
        if pl_module.device.type == "cpu" and not pl_module.objective.closed_form:
            self.of_step = of_step(operations(pl_module, self.x, self.batch_size), self.of_scores)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        del trainer, pl_module
        torch.set_num_threads(self.of_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        del trainer, pl_module
        torch.set_num_threads(self.of_scores)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        del trainer, pl_module
        torch.set_num_threads(self.of_scores)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        del pl_module
        if trainer.training:
            torch.set_num_threads(self.of_step)


def operations(model: LatentVariableModel, x: Tensor, batch_size: int) -> float:
    r"""Floating-point operations of the matrix products and convolutions of a training step.

    With e operations to encode a row and d to draw and score one z of it, forward, $B\,(3 e + 3 K d)$: the way back
    takes two products for each one of the way there. Through m of the K draws, $B\,(3 e + (K + 3 m)\, d)$.

    Args:
        model: On the device that it is trained on.
        x: A row of the data, ``[1, *x_shape]``.
        batch_size: Rows of a step.
    """
    one, two = (_forward(model, x.to(model.device), k) for k in (1, 2))
    each = two - one
    few = model.objective.backward
    passes = 3 * model.k if few is None or few >= model.k else model.k + 3 * few
    return batch_size * (3 * (one - each) + passes * each)


def _forward(model: LatentVariableModel, x: Tensor, k: int) -> int:
    modes = {module: module.training for module in model.modules()}
    model.eval()  # a layer that looks at other rows of its batch would refuse a single one
    with seeding.forked(x.device), torch.no_grad(), FlopCounterMode(display=False) as counter:
        draw(model.joint, model.q, x, k)
    for module, training in modes.items():  # each its own: a layer of the user's may be frozen in evaluation mode
        module.training = training
    return counter.get_total_flops()
