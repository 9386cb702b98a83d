"""The command that evaluates a run: measure it, write what was found, and print it."""

from typing import Any

from omegaconf import DictConfig

from taut.api.evaluation import Evaluated, Evaluation
from taut.commands.base import measure_run
from taut.commands.evaluate_output import EvaluateOutput, compare
from taut.training.stored_run import Run

__all__ = ["compare", "evaluate"]


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate the run that ``cfg`` names and return what goes into ``evaluation/result.json``.

    Raises:
        UserError: If the run cannot be read, or an estimator does not fit its model.
    """
    return measure_run(cfg, Evaluation, cfg.share, _output)


def _output(cfg: DictConfig, run: Run, found: Evaluated) -> EvaluateOutput:
    return EvaluateOutput(cfg, run, found.result, found)
