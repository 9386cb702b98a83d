"""MLflow: one store for all runs on this machine, or the server that the user names."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger

from taut.config.program import extra
from taut.errors import UserError
from taut.files import held, read_regular, write_atomically
from taut.training.loggers.guarded import Guarded
from taut.training.loggers.opening import home

STORE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", ".mlflow.lock"
ID = "mlflow/id"
"""The run of the store that a run folder is, in that folder."""
PATIENCE = 60.0
"""Seconds to wait for another process that makes the store, or writes to it."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # else it reports to its makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # of seven, with two minutes for each, a training would wait for long
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it tells of every table it makes
}


def mlflow_logger(
    *,
    folder: str | os.PathLike[str],
    name: str,
    group: str | None,
    tracking_uri: str | None = None,
    experiment_name: str = "taut",
    **_: Any,
) -> list[Logger]:
    """The MLflow logger of one run.

    Args:
        folder: The run folder. A resumed run keeps the run of the store that it finds there.
        name: Name of the run, see ``run_name``.
        group: Name of the sweep the run belongs to, which becomes its tag ``sweep``.
        tracking_uri: Where MLflow keeps the runs. If not given: what the environment variable ``MLFLOW_TRACKING_URI``
            says, or the SQLite file ``mlflow.db`` in the nearest folder above the run's that is called ``outputs``, or
            in the run folder without one.
        experiment_name: The experiment of MLflow that the run belongs to.

    Raises:
        UserError: If MLflow is not installed.
    """
    if find_spec("mlflow") is None or find_spec("sqlalchemy") is None:
        raise UserError(f"logger=mlflow needs MLflow, which is not installed: {extra('mlflow')}")
    os.environ |= SETTINGS | os.environ
    place = home(Path(folder))
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place / STORE}"
    tags = {"folder": str(folder), **({"sweep": group} if group else {})}
    return [Guarded(MLFlowLogger, partial(_opened, Path(folder), place, uri, experiment_name, name, tags))]


def _opened(folder: Path, place: Path, uri: str, experiment: str, name: str, tags: Mapping[str, str]) -> MLFlowLogger:
    from mlflow import MlflowClient

    # the tables of a new store, and an experiment, are made once, whichever job of a sweep is first
    with held(place / LOCK, _patience()):
        client = MlflowClient(uri)
        run = _run(client, folder, lambda: _experiment(client, experiment, place, uri), name, tags)
    client.update_run(run, status="RUNNING")
    return MLFlowLogger(experiment_name=experiment, tracking_uri=uri, run_id=run)


def _patience() -> Callable[[], bool]:
    end = time.monotonic() + PATIENCE
    return lambda: time.monotonic() < end


def _run(client: Any, folder: Path, experiment: Callable[[], str], name: str, tags: Mapping[str, str]) -> str:
    """The id of the run of the store that the folder names, or of a new one where it names none that is there."""
    from mlflow.exceptions import MlflowException

    path = folder / ID
    if path.exists():
        known = read_regular(path).decode("utf-8", "replace").strip()
        try:
            if client.get_run(known).info.lifecycle_stage == "active":
                return known
        except MlflowException:  # the folder was moved to another machine, or the store was removed
            pass
    run = client.create_run(experiment(), tags=dict(tags), run_name=name).info.run_id
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, f"{run}\n")
    return run


def _experiment(client: Any, name: str, place: Path, uri: str) -> str:
    known = client.get_experiment_by_name(name)
    if known is not None:
        return known.experiment_id
    # else MLflow would keep the files of a local store in the working directory
    location = (place / ARTIFACTS).absolute().as_uri() if uri.startswith("sqlite:") else None
    return client.create_experiment(name, artifact_location=location)
