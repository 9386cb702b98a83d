"""Strategies of training that Lightning lacks, or has in a form that changes the numbers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)
from torch.optim import Optimizer
from torchmetrics import Metric

from taut.data.batches import Batch
from taut.errors import UserError


class Sharded(FSDPStrategy):
    """Fully sharded data parallelism (FSDP) with checkpoints of one file, the same as those of every other strategy.

    The model is one unit: a step gathers all parameters, computes as on one GPU, and spreads them again. With
    Lightning's own ``FSDPStrategy`` a run would not end in the bits of ``strategy=ddp``, because that

    - rounds batches, and the sums of the metrics, to the precision of the parameters;
    - leaves gathered parameters where ``torch.func.functional_call`` cannot replace them (STL, DReG);
    - wraps the model again for the test, and on a CPU hands its parameters to a GPU if there is one;
    - reads checkpoints past the trainer's ``CheckpointIO``, which checks the seal and loads no pickled objects.

    Args:
        settings: Arguments of Lightning's strategy.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(state_dict_type="full", **settings)
        self._root: FullyShardedDataParallel | None = None

    def _setup_model(self, model: nn.Module) -> nn.Module:
        """Wrap the model once; its parameters stay spread between fit and test."""
        if self._root is None:  # Lightning asks again for the test, when the parameters are spread already
            model.register_forward_pre_hook(_only_registered)
            self._root = FullyShardedDataParallel(
                model, sharding_strategy=self.sharding_strategy, device_id=self.root_device, **self.kwargs
            )
        # Lightning would round every batch to the precision of the parameters: a table's numbers are float64
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
            # Lightning may hand over its wrapper of the optimiser
            state = FullyShardedDataParallel.optim_state_dict(self._whole, getattr(optimizer, "_optimizer", optimizer))
            if self.global_rank == 0:
                # by number, as in the checkpoints of other strategies; FSDP goes by name
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
        """Gather all parameters in every process for the length of a block; all processes must enter it."""
        # nothing is changed inside, so nothing needs to be spread again
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


STEPS_PER_BATCH = 10
"""Steps whose rows are handed out at once: what surrounds a step in Python is paid once for all of them."""
EAGER_STEPS = 3
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

    steps_per_batch = STEPS_PER_BATCH

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
        """Make as many steps as batches were handed out."""
        parts = self._batch.parts()
        for part in parts:
            self._item = part
            outcome = self._step(optimizer, closure, model, **kwargs)
        self._count(len(parts) - 1)
        return outcome

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the state in the form of every other strategy."""
        state = super().optimizer_state(optimizer)
        return {**state, "param_groups": [_plain(group) for group in optimizer.state_dict()["param_groups"]]}

    def _step(self, optimizer: Optimizer, closure: Any, model: Any, **kwargs: Any) -> Any:
        if not self._recordable(optimizer) or self._eager < EAGER_STEPS:
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
        # a copy, because every replay reads these addresses
        item, self._item = self._item, Batch(self._item.x.clone(), self._item.index.clone(), self._item.total)
        self._recorded = self._item
        closure._result = None  # the autograd graph of the last step belongs to another stream
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                super().optimizer_step(optimizer, closure, model, **kwargs)
        except RuntimeError as error:
            # ending the failed recording raises too, on top of the error that says why
            reason = str(error.__context__ or error).splitlines()[0]
            raise UserError(
                f"These training steps cannot be recorded as a CUDA graph ({reason}); choose strategy=gpu."
            ) from error
        self._graph, self._outcome, self._item = graph, closure.consume_result(), item

    def _recordable(self, optimizer: Optimizer) -> bool:
        """Tell whether the steps have a form for graphs; if so the optimiser takes it."""
        scaled = getattr(self.precision_plugin, "scaler", None) is not None
        if self.root_device.type != "cuda" or scaled or "capturable" not in optimizer.defaults:
            return False
        if getattr(self.lightning_module, "kl_weight", 1.0) != 1.0:  # a number too, which changes at every step
            return False
        for group in optimizer.param_groups:
            group["capturable"] = True
            if not isinstance(group["lr"], Tensor):  # a number would be part of the recording
                group["lr"] = torch.tensor(group["lr"], device=self.root_device)
        move_steps(optimizer, self.root_device)
        return True

    def _count(self, more: int) -> None:
        """Tell Lightning of steps it did not see."""
        assert self.lightning_module is not None
        # global_step, which keys the noise of a step and names checkpoints, is read from this counter
        loop = self.lightning_module.trainer.fit_loop.epoch_loop
        for _ in range(more):
            loop.automatic_optimization.optim_progress.optimizer.step.increment_ready()
            loop.automatic_optimization.optim_progress.optimizer.step.increment_completed()


def move_steps(optimizer: Optimizer, device: torch.device) -> None:
    """Put the counters of steps where a graph can count on; those of a checkpoint come to the CPU, unless fused."""
    for state in optimizer.state.values():
        if isinstance(step := state.get("step"), Tensor) and step.device != device:
            state["step"] = step.to(device)


def _plain(group: dict[str, Any]) -> dict[str, Any]:
    """Settings without what only a recording needs."""
    if "capturable" not in group:
        return group
    return group | {"lr": float(group["lr"]), "capturable": False}


def asked_for(trainer: DictConfig) -> dict[str, Any]:
    """Arguments of Lightning's trainer beside its config, where that says ``strategy: recorded``."""
    if trainer.strategy != "recorded":
        return {}
    if trainer.get("accumulate_grad_batches", 1) != 1:
        raise UserError(
            "strategy=gpu_recorded makes a step of every batch; leave trainer.accumulate_grad_batches at 1 and raise "
            "data.batch_size, or choose strategy=gpu."
        )
    first = trainer.devices[0] if OmegaConf.is_list(trainer.devices) else 0
    return {"strategy": Recorded(f"cuda:{first}")}
