"""Experiment tracking: W&B, offline unless asked, and libraries that keep quiet."""

from taut.training.loggers.opening import csv_logger, home, run_id, wandb_logger
from taut.training.loggers.records import (
    build,
    choice,
    choices,
    debugged,
    finishing,
    mask_word,
    name_of,
    public,
    quiet,
    record_completion,
    record_evaluation,
    run_name,
    say_kinds,
    summarise,
)
from taut.training.loggers.tracker import finish

__all__ = [
    "build",
    "choice",
    "choices",
    "csv_logger",
    "debugged",
    "finish",
    "finishing",
    "home",
    "mask_word",
    "name_of",
    "public",
    "quiet",
    "record_completion",
    "record_evaluation",
    "run_id",
    "run_name",
    "say_kinds",
    "summarise",
    "wandb_logger",
]
