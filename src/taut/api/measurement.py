"""Measuring a trained run: its model and data, and the estimators that fit it. Nothing is printed or written here."""

from abc import ABC, abstractmethod
from typing import Any

from omegaconf import DictConfig

from taut.config.instantiate import instance
from taut.data.base import Data
from taut.errors import UserError
from taut.evidence import Evidence, Exact, Target
from taut.evidence.loop import EvalResult, EvalTask, measure
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage, Stages
from taut.training.module import LatentVariableModel
from taut.training.stored_run import Run

Loaded = tuple[LatentVariableModel, Data, dict[str, Any]]
"""What :meth:`taut.training.stored_run.Run.load` gives."""


class Measurement(ABC):
    """The stages of one command on one process.

    A subclass reads its data in its constructor and then calls ``choose_estimators``.

    Args:
        cfg: The config of the command.
        run: The run.
        processes: The processes it is divided among.
        loaded: The model, the data and the checkpoint of the run, where they have been read already.
    """

    target: Target
    estimators: list[Evidence]
    skipped: list[str]

    def __init__(self, cfg: DictConfig, run: Run, processes: Processes, loaded: Loaded | None = None) -> None:
        self.cfg, self.run, self.processes = cfg, run, processes
        self.model, self.data, self.checkpoint = loaded or run.load()
        self.other_data = self.checkpoint["data_digest"] != self.data.digest

    @property
    @abstractmethod
    def output(self) -> str:
        """The name of the folder that is written, inside that of the run."""

    @abstractmethod
    def run_all(self) -> Any:
        """Run every stage, one after another; the result is what a command writes."""

    def choose_estimators(self) -> None:
        """Put the model on the device of the process, and take the estimators that fit it."""
        self.model.to(self.processes.device)
        self.target = Target.of(self.model.joint, self.model.q)
        self.estimators, self.skipped = fitting(self.cfg.evidence, self.target, self.cfg.unfit)

    def measure(self, task: EvalTask, name: str, stages: Stages) -> EvalResult:
        """Score the data of a task; the estimators that need the z behind them only where those are known."""
        estimators = [estimator for estimator in self.estimators if task.z is not None or not estimator.simulated]
        return measure(task, estimators, self.processes, self.stage(name, task, stages))

    def stage(self, name: str, task: EvalTask, stages: Stages) -> Stage:
        """A stage on the progress bar, of the data that are this process's."""
        return stages.stage(name, len(self.processes.rows(len(task.x))))

    def warnings(self) -> list[str]:
        """What every number of the command stands under."""
        if not self.other_data:
            return []
        return [
            f"{', '.join(self.run.told)}: these are not the data that the run was trained on (their digests differ), "
            "and any split may hold rows that it was trained on."
        ]

    def about_run(self) -> dict[str, Any]:
        """The first entries of ``result.json``: what was measured."""
        run = self.run
        return {
            "status": "finished",
            "name": run.name,
            "run": run.folder.name,
            **run.choices,
            "binarisation": run.binarisation,
            "families": self.model.joint.likelihood.families,
            "measure": "mass" if self.model.joint.likelihood.is_mass else "density",
        }

    def about_measurement(self, precision: Any, seconds: float) -> dict[str, Any]:
        """The entries of ``result.json`` that say of what weights and data the numbers are."""
        return {
            "checkpoint": self.checkpoint,
            "precision": str(precision).removeprefix("torch."),
            "data_digest": self.data.digest,
            "other_data": self.other_data,
            "seconds": seconds,
        }


def fitting(nodes: DictConfig, target: Target, unfit: str) -> tuple[list[Evidence], list[str]]:
    """The estimators that fit the model, the exact value in front where it is cheap; and why others were skipped.

    Args:
        nodes: The estimators by name, or what a config says of them.
        target: The model.
        unfit: ``refuse`` or ``skip`` those that do not fit.

    Raises:
        UserError: If one does not fit and may not be skipped.
    """
    estimators: list[Evidence] = []
    skipped = []
    for node in nodes.values():
        try:
            estimator = node if isinstance(node, Evidence) else instance(node, Evidence)
            estimator.check(target)
            estimators.append(estimator)
        except UserError as error:
            if unfit == "refuse":
                raise
            skipped.append(str(error))
    cheap = target.exact is not None or target.discrete
    if cheap and not any(isinstance(estimator, Exact) for estimator in estimators):
        estimators.insert(0, Exact())
    return estimators, skipped
