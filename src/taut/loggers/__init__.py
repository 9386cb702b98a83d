"""Experiment tracking: W&B, offline unless asked, and libraries that keep quiet."""

from taut.loggers.run import (
    build,
    choice,
    choices,
    finishing,
    mask_word,
    name_of,
    public,
    quiet,
    record_completion,
    record_evaluation,
    run_name,
    summarise,
)
from taut.loggers.tracker import csv_logger, finish, run_id, wandb_logger

__all__ = [
    "build",
    "choice",
    "choices",
    "csv_logger",
    "finish",
    "finishing",
    "mask_word",
    "name_of",
    "public",
    "quiet",
    "record_completion",
    "record_evaluation",
    "run_id",
    "run_name",
    "summarise",
    "wandb_logger",
]
