"""TensorBoard: the events of a run in its own folder."""

import os
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from taut.config.program import extra
from taut.errors import UserError

FOLDER = "tensorboard"


class TensorBoard(TensorBoardLogger):
    """Lightning's logger for TensorBoard, which takes back what a run that goes on does once more.

    Args:
        folder: The run folder; its ``tensorboard`` gets the files.
        trains: Whether the run trains, and does not only get further numbers, which take nothing back.
    """

    def __init__(self, folder: str | os.PathLike[str], trains: bool = True) -> None:
        super().__init__(save_dir=os.fspath(folder), name="", version=FOLDER, default_hp_metric=False)
        self._goes_on = trains and Path(folder, FOLDER).is_dir()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._goes_on and step is not None:
            self._goes_on = False
            self._take_back(step)
        super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        # without Lightning's own file of settings: those of the run are in .hydra
        self.experiment.flush()

    def _take_back(self, step: int) -> None:
        """Have readers drop the events from this step on of a run that was killed."""
        from tensorboard.compat.proto import event_pb2

        events: Any = event_pb2  # made at import, so that no type checker knows its names
        again = events.Event(session_log=events.SessionLog(status=events.SessionLog.START))
        self.experiment._get_file_writer().add_event(again, step)


def tensorboard_logger(*, folder: str | os.PathLike[str], config: Mapping[str, Any], **_: Any) -> list[Logger]:
    """The TensorBoard logger of one run: ``tensorboard --logdir outputs`` shows all runs.

    Args:
        folder: The run folder.
        config: The config of the run that trains; empty where its evaluation is added.

    Raises:
        UserError: If TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError(f"logger=tensorboard needs TensorBoard, which is not installed: {extra('tensorboard')}")
    _keep_threads_quiet()
    return [TensorBoard(folder, trains=bool(config))]


def _keep_threads_quiet() -> None:
    """Have a thread that cannot write say nothing: the next call raises its error once more."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    if getattr(before, "__module__", None) != __name__:
        threading.excepthook = hook
