"""Early stopping on a number that may be selected on."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from taut.errors import UserError, nearest
from taut.objective.base import Objective
from taut.training.checkpoint import of_all_ranks
from taut.training.scored_model import SCORES

Mode = Literal["min", "max"]


def early_stopping(monitor: str = "val/bound", mode: Mode = "max", **settings: Any) -> EarlyStopping:
    """Lightning's ``EarlyStopping`` for a validation score; NaN stops the run.

    Args:
        monitor: Name of a ``val/`` metric.
        mode: ``max`` for bounds, ``min`` for the gap.
        settings: Further arguments of Lightning's callback, such as ``patience`` and ``min_delta`` (nats).

    Raises:
        UserError: If ``monitor`` is a test score or what training minimises.
    """
    return Patient(monitor=selectable(monitor), mode=mode, check_finite=True, **settings)


class Patient(EarlyStopping):
    """Lightning's ``EarlyStopping``, with the patience it is given also where a checkpoint was written with another."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})


def selectable(monitor: str) -> str:
    """Let a validation score through and refuse any other.

    Raises:
        UserError: If ``monitor`` does not start with ``val/``, or if there is no such score.
    """
    if not monitor.startswith("val/"):
        raise UserError(
            f"monitor={monitor} may not choose when to stop or what to keep: test scores are for the end and "
            "train/ scores reward over-fitting; use a validation score such as val/bound."
        )
    names = [f"val/{name}" for name in (*SCORES, "active_units")]
    if monitor not in names:
        raise UserError(f"monitor={monitor} is not a validation score; {nearest(monitor, names)}")
    return monitor


FOLDER = "checkpoints"


class Kept(ModelCheckpoint):
    """Lightning's ``ModelCheckpoint`` in the run folder, which may have been moved since it was written.

    It writes at the end of an epoch and also, if asked, every so many steps within it; never between the last step
    of an epoch and its validation, because a run that goes on from there would skip the validation.

    Args:
        name: How its files begin; also what its state is called in the checkpoint.
        every_n_train_steps: Steps between two checkpoints within an epoch.
        settings: Arguments of Lightning's callback.
    """

    every_step = False

    def __init__(self, name: str, every_n_train_steps: int | None = None, **settings: Any) -> None:
        # else Lightning writes "epoch=epoch=", and "-v1" after the name where a file of that name exists
        super().__init__(auto_insert_metric_name=False, enable_version_counter=False, every_n_epochs=1, **settings)
        self.name = name
        self._every_n_train_steps = every_n_train_steps or 0  # Lightning's constructor wants epochs or steps

    @property
    def state_key(self) -> str:
        # Lightning's key holds the settings: with another interval a resumed run would not find its state
        return f"{type(self).__qualname__}.{self.name}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(Path(trainer.default_root_dir).absolute() / FOLDER)
        with warnings.catch_warnings():
            # the folder of a resumed run is never empty
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._prune(trainer)

    def on_train_batch_end(self, trainer: Trainer, *details: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *details)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._prune(trainer)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Tell whether to keep these weights: always, where the objective is after those it ends with."""
        if current is None:  # nothing was validated
            return False
        objective = getattr(trainer.lightning_module, "objective", None)
        last = isinstance(objective, Objective) and objective.runs_to_the_end
        return last or super().check_monitor_top_k(trainer, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # of another folder Lightning would forget which checkpoints are the best
        super().load_state_dict(_moved(state_dict, str(self.dirpath)))
        worst_first = sorted(self.best_k_models.items(), key=lambda kept: kept[1], reverse=self.mode == "min")
        if 0 < self.save_top_k < len(worst_first):  # it was written by a run that kept more
            self.best_k_models = dict(worst_first[-self.save_top_k :])
            self.kth_best_model_path, self.kth_value = worst_first[-self.save_top_k]

    def _prune(self, trainer: Trainer) -> None:
        """Remove what a killed run left behind, and the file a run was resumed from, which Lightning spares."""
        if trainer.is_global_zero and self.best_k_models:
            for path in Path(str(self.dirpath)).glob(f"{self.name}*.ckpt"):
                if str(path) not in self.best_k_models:
                    path.unlink()


def best(monitor: str = "val/bound", mode: Mode = "max") -> Kept:
    """Keep ``best.ckpt``, the one with the best validation score.

    Args:
        monitor: Name of a ``val/`` metric.
        mode: ``max`` for bounds, ``min`` for the gap.

    Raises:
        UserError: If ``monitor`` may not be selected on.
    """
    return Kept("best", monitor=selectable(monitor), mode=mode, save_top_k=1, filename="best")


def recent(keep: int = 2, every_n_train_steps: int | None = None) -> Kept:
    """Keep the newest few, to go on from: one at the end of each epoch, and more within it if asked.

    Args:
        keep: How many.
        every_n_train_steps: Also write one after so many steps, for epochs that take hours.
    """
    return Kept(
        "recent",
        every_n_train_steps,
        monitor="step",
        mode="max",
        save_top_k=keep,
        filename="recent-epoch={epoch:05d}-step={step:08d}",
        save_on_train_epoch_end=True,
    )


PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state with every path in a folder: by its name alone, since Lightning deletes what is no longer the best."""

    def place(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    moved = {name: place(state[name]) for name in PATHS if name in state}
    best = {place(path): score for path, score in state["best_k_models"].items()}
    return {**state, **moved, "dirpath": folder, "best_k_models": best}


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
        return {"ranks": of_all_ranks({"cpu": [torch.get_rng_state()], "cuda": _cuda_states()})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._states = state_dict["ranks"]
        for states in self._states:
            # now, while a state that is none is still a fault of the checkpoint
            torch.Generator().set_state(states["cpu"][0].cpu())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank < len(self._states):
            _restore(self._states[trainer.global_rank])
        self._states = []


def _cuda_states() -> list[Tensor]:
    # asking would start CUDA in a process that does without
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _restore(states: States) -> None:
    # to the CPU: torch takes states from main memory only, wherever the checkpoint was loaded
    torch.set_rng_state(states["cpu"][0].cpu())
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
