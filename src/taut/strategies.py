"""Strategies of training that Lightning has not in the form we need."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)
from torchmetrics import Metric


class Sharded(FSDPStrategy):
    """Fully sharded data parallelism (FSDP) with checkpoints of one file, the same as those of every other strategy.

    The model is one unit: a step gathers all parameters, computes as on one GPU, and spreads them again. Checkpoints
    are written and read by the trainer's ``CheckpointIO``; Lightning's own reader would unpickle them.

    Args:
        settings: Arguments of Lightning's strategy.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(state_dict_type="full", **settings)
        self._root: FullyShardedDataParallel | None = None

    def _setup_model(self, model: nn.Module) -> nn.Module:
        """Wrap the model once: its parameters stay spread between fit and test."""
        if self._root is None:
            model.register_forward_pre_hook(_only_registered)
            self._root = FullyShardedDataParallel(
                model, sharding_strategy=self.sharding_strategy, device_id=self.root_device, **self.kwargs
            )
        # Lightning would round every batch to the precision of the parameters, and the offset of a table with it
        setattr(self.precision_plugin, "convert_input", lambda data: data)  # noqa: B010
        for meter in model.modules():
            if isinstance(meter, Metric):  # no parameters, so FSDP does not move them; and Lightning made them float32
                meter.to(self.root_device).set_dtype(torch.float64)
        return self._root

    def lightning_module_state_dict(self) -> dict[str, Any]:
        with self._full(first_only=True):
            return self._whole.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        with self._full(first_only=True):
            state = FullyShardedDataParallel.optim_state_dict(self._whole, getattr(optimizer, "_optimizer", optimizer))
            if self.global_rank == 0:
                state = FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, self._whole)
        return state

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one sealed file in every process, and keep this process's share of it."""
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)
        with self._full(first_only=False):
            self._whole.load_state_dict(checkpoint["state_dict"])
            if self._fitting:
                for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
                    optimizer.load_state_dict(self._share_of(state, optimizer))
        return checkpoint

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All parameters in every process for the length of a block; all processes must enter it."""
        with FullyShardedDataParallel.summon_full_params(self._whole, writeback=False):
            yield

    @property
    def _whole(self) -> FullyShardedDataParallel:
        assert self._root is not None
        return self._root

    @property
    def _fitting(self) -> bool:
        assert self.lightning_module is not None
        return self.lightning_module.trainer.state.fn == TrainerFn.FITTING

    def _full(self, first_only: bool) -> Any:
        """States as one process would have them; those of a GPU are put together in the memory of the first one."""
        apart = self.root_device.type != "cpu"  # on the CPU torch 2.13 would free what it hands out
        first_only = first_only and apart
        return FullyShardedDataParallel.state_dict_type(
            self._whole,
            StateDictType.FULL_STATE_DICT,
            FullStateDictConfig(offload_to_cpu=apart, rank0_only=first_only),
            FullOptimStateDictConfig(offload_to_cpu=apart, rank0_only=first_only),
        )

    def _share_of(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        root = self._whole
        named = FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, root)
        return FullyShardedDataParallel.optim_state_dict_to_load(root, optimizer, named)


def _only_registered(model: nn.Module, _: Any) -> None:
    """Leave each gathered parameter in one place, where ``torch.func.functional_call`` can stand in for it.

    FSDP also makes it an attribute of its module, which wins: gradients that hold q's parameters constant (STL, DReG)
    would be wrong without a word.
    """
    for module in model.modules():
        for name in module._parameters:
            vars(module).pop(name, None)


@contextmanager
def whole_weights(trainer: Trainer) -> Iterator[None]:
    """The model's parameters whole for the length of a block, also where a strategy spreads them.

    Every process must enter it, even if only one looks.
    """
    strategy: Strategy = trainer.strategy
    with strategy.whole() if isinstance(strategy, Sharded) else nullcontext():
        yield
