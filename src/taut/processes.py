"""The processes of one evaluation: which rows each takes, and how their results come together."""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Int
from lightning.fabric import Fabric
from omegaconf import DictConfig
from torch import Tensor, distributed

from taut.errors import UserError
from taut.sampling import Share

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
    def launch(cls, trainer: DictConfig, divide: Literal["data", "samples"]) -> "Processes":
        """Start the processes that ``strategy`` asks for.

        Raises:
            UserError: If the device is not to be had.
        """
        try:
            fabric = Fabric(accelerator=trainer.accelerator, devices=trainer.devices, strategy=_name(trainer))
        except Exception as error:
            raise UserError(
                f"strategy: accelerator={trainer.accelerator} devices={trainer.devices} is not to be had on this "
                f"machine ({torch.cuda.device_count()} GPUs); choose strategy=cpu or strategy=auto."
            ) from error
        fabric.launch()
        return cls(fabric.global_rank, fabric.world_size, fabric.device, divide)

    @property
    def first(self) -> bool:
        """Whether this is the process that shows and writes."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The blocks of samples this process draws."""
        return Share(self.rank, self.world) if self.divide == "samples" else Share()

    def rows(self, n: int) -> Int[Tensor, " m"]:
        """The rows of this process among n."""
        if self.divide == "samples":
            return torch.arange(n)
        return torch.arange(self.rank, n, self.world)

    def gathered(self, mine: T) -> list[T]:
        """What every process has, in order of rank; the same everywhere where samples are divided, so one is enough."""
        if self.world == 1 or self.divide == "samples":
            return [mine]
        everything: list[Any] = [None] * self.world
        distributed.all_gather_object(everything, mine)
        return everything


def _name(trainer: DictConfig) -> str:
    """Fabric's name for the strategy; it has processes of its own kind, so only their number counts."""
    return "auto" if isinstance(trainer.strategy, str) else "ddp"
