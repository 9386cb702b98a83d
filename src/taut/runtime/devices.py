"""Checks of the devices that ``strategy`` asks for: first from the config alone, then on this machine."""

from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from taut.errors import UserError
from taut.runtime.launch import launched

DOCS = "docs/devices.md"
ALL = ("auto", -1)
ALONE = ("auto", "recorded")
ONE = {"strategy": "auto", "devices": 1}
SHARDED = "taut.training.strategies.Sharded"
NO_MPS = (
    "strategy=mps is not possible: Apple's GPUs have no float64, in which z and its densities are; choose strategy=cpu."
)


def check(cfg: DictConfig) -> None:
    """Refuse what no machine could run, without importing what would run it.

    Args:
        cfg: A config whose values have been checked.

    Raises:
        UserError: For the first thing that is wrong.
    """
    # a command without a trainer is one process
    trainer: Any = OmegaConf.to_container(cfg.get("trainer") or OmegaConf.create(ONE), resolve=True)
    if not isinstance(trainer["strategy"], dict):
        _check_alone(trainer)
    else:
        _check_several(trainer)
        if trainer["strategy"].get("_target_") == SHARDED:
            _check_sharded(trainer)


def _check_alone(trainer: dict[str, Any]) -> None:
    if trainer["strategy"] not in ALONE:
        raise UserError(
            f"trainer.strategy={trainer['strategy']} is not one of ours; choose with strategy=, e.g. strategy=ddp."
        )
    if _listed(trainer["devices"]) != 1:
        raise UserError(
            f"trainer.devices must be 1 where the strategy is one process, got {trainer['devices']}; choose "
            "strategy=ddp for GPUs, or strategy=ddp_cpu."
        )
    launch = launched()
    if launch:
        raise UserError(
            f"{launch.by} started {launch.world} processes of this command, and this strategy is one; choose "
            "strategy=ddp_nodes, or start one process (srun --ntasks=1)."
        )


def _check_several(trainer: dict[str, Any]) -> None:
    nodes, devices, launch = trainer.get("num_nodes", 1), _listed(trainer["devices"]), launched()
    if nodes > 1 and launch is None:
        raise UserError(
            f"trainer.num_nodes={nodes} needs torchrun or srun to start the processes on every machine, and this "
            f"command was started by neither; see {DOCS}, or choose strategy=ddp for the GPUs of one machine."
        )
    if launch and devices and nodes * devices != launch.world:
        raise UserError(
            f"{launch.by} started {launch.world} processes, but trainer.num_nodes={nodes} times trainer.devices="
            f"{devices} are {nodes * devices}; set the two to what {launch.by} was given."
        )


def _check_sharded(trainer: dict[str, Any]) -> None:
    if trainer.get("precision", "32-true") != "32-true":
        raise UserError(
            "trainer.precision must be 32-true under strategy=fsdp, which keeps its parameters in single precision, "
            f"got {trainer['precision']}; set it, or choose strategy=ddp."
        )
    if trainer.get("gradient_clip_val") is not None:
        raise UserError(
            "trainer.gradient_clip_val must be null under strategy=fsdp, which never sees a whole gradient, got "
            f"{trainer['gradient_clip_val']}; set it, or choose strategy=ddp."
        )


def check_folder(cfg: DictConfig) -> None:
    """Refuse a run folder that every process would name for itself.

    Args:
        cfg: The config with Hydra's part.

    Raises:
        UserError: If several processes were started and the folder was not named.
    """
    launch = launched()
    raw = OmegaConf.to_container(cfg.hydra.run, resolve=False)
    if launch and isinstance(raw, dict) and "${taut." in str(raw["dir"]):
        raise UserError(
            f"{launch.by} started {launch.world} processes, which need one folder to write to; name it, e.g. "
            "hydra.run.dir=outputs/runs/big."
        )


def require(trainer: DictConfig) -> int:
    """The number of processes on this machine, once it is sure that it has the devices for them.

    Raises:
        UserError: If a device is not to be had, or cannot compute in the precision asked for.
    """
    # here, because the config is checked before anything that takes seconds to import
    import torch

    devices = OmegaConf.to_container(trainer)["devices"]  # type: ignore[index, call-overload]
    gpus = torch.cuda.device_count()
    on_gpu = accelerator(trainer) == "cuda"
    count = _listed(devices) or (gpus if on_gpu else 1)
    if on_gpu and _highest(devices, count) > gpus:
        apples = ", and Apple's has no float64" if torch.backends.mps.is_available() else ""
        raise UserError(
            f"strategy: accelerator={trainer.accelerator} devices={devices} is not available on this machine ({gpus} "
            f"GPUs{apples}); choose strategy=cpu or strategy=auto."
        )
    if not on_gpu and trainer.get("precision") == "16-mixed":
        raise UserError("trainer.precision=16-mixed needs a GPU; choose bf16-mixed or 32-true on a CPU.")
    return count


def accelerator(trainer: DictConfig) -> Literal["cpu", "cuda"]:
    """Where to compute, by Lightning's name.

    Lightning's own ``auto`` and ``gpu`` would take Apple's GPU, which lacks float64.
    """
    import torch

    if trainer.accelerator == "auto":
        return "cuda" if torch.cuda.device_count() else "cpu"
    return "cpu" if trainer.accelerator == "cpu" else "cuda"


def environment() -> Any:
    """The plugin by which Lightning learns the rank of this process.

    Slurm's signals are ours to answer (``taut.training.callbacks.signals``), so that Lightning puts no job back into
    the queue; and one task of Slurm is one process, which may start others.
    """
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    launch = launched()
    if launch is None:
        return LightningEnvironment()
    return SLURMEnvironment(auto_requeue=False) if launch.by == "srun" else TorchElasticEnvironment()


def _listed(devices: Any) -> int | None:
    """Number of devices asked for; ``None`` for all there are."""
    if devices in ALL:
        return None
    return len(devices) if isinstance(devices, list) else devices


def _highest(devices: Any, count: int) -> int:
    """Number of devices the machine must have; at least one."""
    return max(1, 1 + max(devices) if isinstance(devices, list) else count)
