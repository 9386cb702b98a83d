"""The processes of one evaluation: which rows each takes, and how their results come together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Int
from lightning.fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, distributed

from taut.functional.sampling import ProcessShare
from taut.runtime import devices
from taut.runtime.workers import worker_processes

T = TypeVar("T")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """One process among others.

    Args:
        rank: This process.
        world: Number of processes.
        device: Where it computes.
        divide: What is divided: ``data``, or the ``samples`` of every datum.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    divide: Literal["data", "samples"] = "data"

    @classmethod
    @contextmanager
    def launch(
        cls, trainer: DictConfig, divide: Literal["data", "samples"], command: list[str]
    ) -> Iterator["Processes"]:
        """The processes that ``strategy`` asks for, for the length of a block.

        Args:
            trainer: Devices and strategy, as in a config.
            divide: What is divided among the processes.
            command: What starts another process like this one.

        Raises:
            UserError: If the devices are not to be had.
            WorkerFailed: If another process failed.
        """
        with worker_processes(devices.require(trainer), command):
            fabric = Fabric(
                accelerator=devices.accelerator(trainer),
                devices=trainer.devices,
                num_nodes=trainer.get("num_nodes", 1),
                strategy="auto" if isinstance(trainer.strategy, str) else "ddp",
                plugins=[devices.environment()],
            )
            fabric.launch()
            yield cls(fabric.global_rank, fabric.world_size, fabric.device, divide)

    @property
    def first(self) -> bool:
        """True for the process that prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> ProcessShare:
        """The blocks of samples this process draws."""
        return ProcessShare(self.rank, self.world) if self.divide == "samples" else ProcessShare()

    def rows(self, n: int) -> Int[Tensor, " m"]:
        """The rows of this process among n."""
        if self.divide == "samples":
            return torch.arange(n)
        return torch.arange(self.rank, n, self.world)

    def gathered(self, mine: T) -> list[T]:
        """Results of all processes by rank; a single one where samples are divided, since all have the same."""
        if self.world == 1 or self.divide == "samples":
            return [mine]
        everything: list[Any] = [None] * self.world
        distributed.all_gather_object(everything, mine)
        return everything
