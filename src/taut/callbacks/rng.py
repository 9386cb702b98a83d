"""Random generators that go on where a checkpoint left them."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

States = dict[str, list[Tensor]]


class RandomState(Callback):
    """Keeps the states of torch's generators, CPU and CUDA, of every rank in the checkpoint.

    Training noise is keyed and needs none of this; callbacks and layers of the user may draw as they please. The
    states are restored when the fit starts, before its first batch is drawn. A rank the checkpoint does not know
    keeps its own.
    """

    def __init__(self) -> None:
        self._states: list[States] = []

    def state_dict(self) -> dict[str, Any]:
        """The states of all ranks; every rank must ask."""
        own = {"cpu": [torch.get_rng_state()], "cuda": _cuda_states()}
        if not (dist.is_available() and dist.is_initialized()):
            return {"ranks": [own]}
        ranks: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, own)
        return {"ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._states = state_dict["ranks"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank < len(self._states):
            _restore(self._states[trainer.global_rank])
        self._states = []


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _restore(states: States) -> None:
    torch.set_rng_state(states["cpu"][0].cpu())
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
