"""Training on one GPU by recorded steps."""

from typing import Any

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.optim import Optimizer

from taut.data.batches import Batch
from taut.errors import UserError

TOGETHER = 10
"""Batches handed out at once: what surrounds a step in Python is paid once for all of them."""
EAGER = 3
"""Steps made before the recording: they create the optimiser's state and the libraries' workspaces."""


class Recorded(SingleDeviceStrategy):
    """One GPU; a step is recorded once as a CUDA graph, with its backward pass and update, and then replayed.

    A step of these models is some hundred kernels of a few microseconds. Started one by one from Python they take
    several times as long as they compute; a graph starts them all at once. Noise follows the seed of the device's
    generator at every replay. Batches of another size than the recorded one, optimisers that have no form for graphs
    (``capturable``), loss scaling, KL warm-up and closed-form objectives are stepped through as ever.

    Args:
        device: Where to compute; on a CPU nothing is recorded.
    """

    together = TOGETHER

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._batch = self._item = Batch(torch.empty(0), torch.empty(0, dtype=torch.long), 0)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outcome: Any = None
        self._eager = 0

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        self._batch = super().batch_to_device(batch, device, dataloader_idx)
        return self._batch

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        _, *others = args
        return super().training_step(self._item, *others, **kwargs)

    def optimizer_step(self, optimizer: Optimizer, closure: Any, model: Any = None, **kwargs: Any) -> Any:
        """As many steps as batches were handed out."""
        parts = self._batch.parts()
        for part in parts:
            self._item = part
            outcome = self._step(optimizer, closure, model, **kwargs)
        self._count(len(parts) - 1)
        return outcome

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As any other strategy would have it."""
        state = super().optimizer_state(optimizer)
        return {**state, "param_groups": [_plain(group) for group in optimizer.state_dict()["param_groups"]]}

    def _step(self, optimizer: Optimizer, closure: Any, model: Any, **kwargs: Any) -> Any:
        if not self._recordable(optimizer) or self._eager < EAGER:
            self._eager += 1
            return super().optimizer_step(optimizer, closure, model, **kwargs)
        if self._graph is None:
            self._record(optimizer, closure, model, **kwargs)
        if self._item.x.shape != self._recorded.x.shape:
            return super().optimizer_step(optimizer, closure, model, **kwargs)
        self._recorded.x.copy_(self._item.x)
        self._recorded.index.copy_(self._item.index)
        self._graph.replay()  # type: ignore[union-attr]
        closure._result = self._outcome  # what Lightning would have kept of the steps themselves
        return self._outcome.loss

    def _record(self, optimizer: Optimizer, closure: Any, model: Any, **kwargs: Any) -> None:
        item, self._item = self._item, Batch(self._item.x.clone(), self._item.index.clone(), self._item.total)
        self._recorded = self._item
        closure._result = None  # the autograd graph of the last step belongs to another stream
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                super().optimizer_step(optimizer, closure, model, **kwargs)
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0]
            raise UserError(
                f"These training steps cannot be recorded as a CUDA graph ({reason}); choose strategy=gpu."
            ) from error
        self._graph, self._outcome, self._item = graph, closure.consume_result(), item

    def _recordable(self, optimizer: Optimizer) -> bool:
        """Whether there is a form of the steps for graphs; if so the optimiser takes it."""
        scaled = getattr(self.precision_plugin, "scaler", None) is not None
        if self.root_device.type != "cuda" or scaled or "capturable" not in optimizer.defaults:
            return False
        if getattr(self.lightning_module, "kl_weight", 1.0) != 1.0:  # a number too, which changes at every step
            return False
        for group in optimizer.param_groups:
            group["capturable"] = True
            if not isinstance(group["lr"], Tensor):  # a number would be part of the recording
                group["lr"] = torch.tensor(group["lr"], device=self.root_device)
        return True

    def _count(self, more: int) -> None:
        """Tell Lightning of steps it did not see."""
        assert self.lightning_module is not None
        loop = self.lightning_module.trainer.fit_loop.epoch_loop
        for _ in range(more):
            loop.automatic_optimization.optim_progress.optimizer.step.increment_ready()
            loop.automatic_optimization.optim_progress.optimizer.step.increment_completed()


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    """Settings without what only a recording needs."""
    if "capturable" not in group:
        return group
    return group | {"lr": float(group["lr"]), "capturable": False}


def asked_for(trainer: DictConfig) -> dict[str, Any]:
    """What Lightning's trainer is given beside its config where that says ``strategy: recorded``."""
    if trainer.strategy != "recorded":
        return {}
    first = trainer.devices[0] if OmegaConf.is_list(trainer.devices) else 0
    return {"strategy": Recorded(f"cuda:{first}")}
