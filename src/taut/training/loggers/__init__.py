"""Loggers beside ``metrics.csv``: W&B, offline unless asked, TensorBoard, MLflow, and those of the user's own."""

from taut.training.loggers.mlflow import mlflow_logger
from taut.training.loggers.opening import csv_logger, home, run_id, wandb_logger
from taut.training.loggers.records import (
    begin,
    build,
    choice,
    choices,
    debugged,
    finishing,
    log_picture,
    mask_word,
    name_of,
    preparation,
    public,
    quiet,
    record_completion,
    record_evaluation,
    run_name,
    summarise,
)
from taut.training.loggers.tensorboard import tensorboard_logger
from taut.training.loggers.tracker import finish

__all__ = [
    "begin",
    "build",
    "choice",
    "choices",
    "csv_logger",
    "debugged",
    "finish",
    "finishing",
    "home",
    "log_picture",
    "mask_word",
    "mlflow_logger",
    "name_of",
    "preparation",
    "public",
    "quiet",
    "record_completion",
    "record_evaluation",
    "run_id",
    "run_name",
    "summarise",
    "tensorboard_logger",
    "wandb_logger",
]
