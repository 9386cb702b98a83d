"""What a run puts into its loggers beside metrics: settings, pictures, the final table, files; one class per logger."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from taut.config.run_folder import FIGURES
from taut.files import METRICS, RESULT
from taut.runtime.connection import in_time
from taut.training.loggers.tables import Tables
from taut.training.loggers.tracker import PATIENCE, say, shown

LARGEST = 100_000_000
"""Bytes of the largest file that is sent anywhere."""
AXES = ("val/bound", "val/elbo", "val/log_px", "val/gap", "test/log_px", "test/gap")
"""Metrics that TensorBoard shows beside the settings of a run."""


class Contents:
    """Of any logger: its settings, and the numbers among a summary as metrics.

    Args:
        logger: The logger.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Add the config of the run, nested plain values without secrets."""
        self.logger.log_hyperparams(dict(settings))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Add a PNG file under a name, beside those of other steps."""

    def summarise(self, summary: Mapping[str, Any], step: int, logged: Set[str]) -> None:
        """Add numbers and words about the run as a whole.

        Args:
            summary: By their names.
            step: Where on the axis of steps they stand.
            logged: Names of the metrics that have been logged, and need not be again.
        """
        numbers = {name: float(value) for name, value in summary.items() if _is_number(value) and name not in logged}
        if numbers:
            self.logger.log_metrics(numbers, step)

    def tables(self, tables: Tables) -> None:
        """Add rows, by the names of their tables, that a chart draws with those of other runs; W&B alone has such."""

    def curve(self, place: str, rows: Sequence[Mapping[str, float]]) -> None:
        """Add a curve with an axis of its own, ``<place>/k``; W&B alone draws one against another than the step.

        Args:
            place: First part of the names of its values.
            rows: ``k`` and the values there, by the last part of the name.
        """

    def keep(self, folder: Path, checkpoint: Path | None) -> None:
        """Add files of a run that has ended.

        Args:
            folder: The run folder.
            checkpoint: The weights that were tested, if they were kept.
        """

    def close(self, status: str) -> None:
        """Write what is left."""
        self.logger.save()
        self.logger.finalize(status)


class OfTensorBoard(Contents):
    """Scalars, images, texts, and settings that the tab HPARAMS sets against scores."""

    def settings(self, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in flat_settings(settings).items()
        }
        # of the metrics only the names are written: the values are those that are logged, while the run trains
        *start, _ = hparams(plain, dict.fromkeys(AXES, 0.0))
        for summary in start:
            self.logger.experiment._get_file_writer().add_summary(summary)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.logger.experiment.add_image(name, _pixels(path), step, dataformats="HWC")

    def summarise(self, summary: Mapping[str, Any], step: int, logged: Set[str]) -> None:
        super().summarise(summary, step, logged)
        # a text for each first part of a name, such as test: TensorBoard has no place for single words
        for section in dict.fromkeys(name.partition("/")[0] for name in summary):
            rows = [f"| {name} | {value} |" for name, value in summary.items() if name.partition("/")[0] == section]
            self.logger.experiment.add_text(section, "\n".join(["| | |", "|---|---|", *rows]), step)


class OfMLflow(Contents):
    """Parameters, metrics, tags and artifacts."""

    def settings(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        params = {name: str(value)[:250] for name, value in flat_settings(settings).items()}
        known = self.logger.experiment.get_run(self.logger.run_id).data.params
        self.logger.log_hyperparams({name: value for name, value in params.items() if name not in known})
        # MLflow refuses another value of a parameter, and a run that goes on may have one
        tags = [RunTag(f"resumed/{name}", value) for name, value in params.items() if known.get(name, value) != value]
        if tags:
            self.logger.experiment.log_batch(self.logger.run_id, tags=tags)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.logger.experiment.log_image(self.logger.run_id, _pixels(path), key=name, step=step)

    def summarise(self, summary: Mapping[str, Any], step: int, logged: Set[str]) -> None:
        from mlflow.entities import RunTag

        super().summarise(summary, step, logged)
        words = [RunTag(name, value[:5000]) for name, value in summary.items() if isinstance(value, str)]
        if words:
            self.logger.experiment.log_batch(self.logger.run_id, tags=words)

    def keep(self, folder: Path, checkpoint: Path | None) -> None:
        for path in _tables(folder):
            self.logger.experiment.log_artifact(self.logger.run_id, str(path))


class OfWandb(Contents):
    """The summary, images, and artifacts: the weights that were tested, and the tables and figures of the run."""

    def picture(self, name: str, path: Path, step: int) -> None:
        self.logger.log_image(name, [str(path)], step=step)

    def summarise(self, summary: Mapping[str, Any], step: int, logged: Set[str]) -> None:
        self.logger.experiment.summary.update(dict(summary))

    def tables(self, tables: Tables) -> None:
        import wandb

        run = self.logger.experiment
        for name, rows in tables.items():
            columns: list[Any] = list(rows[0])
            cells: list[Any] = [[row[column] for column in columns] for row in rows]
            table = wandb.Table(columns=columns, data=cells)
            # bound beforehand it is a file of the run alone; W&B would make an artifact of it as well, which keeps a
            # copy in the home of the user, and online waits for the server. The 0 is a part of the file's name, beside
            # a digest; run.step would ask W&B's process, and wait for half a minute for one that hangs
            table.bind_to_run(run, name, 0)
            run.log({name: table})

    def curve(self, place: str, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            self.logger.experiment.log({f"{place}/{name}": value for name, value in row.items()})

    def keep(self, folder: Path, checkpoint: Path | None) -> None:
        try:
            pictures = sorted((folder / FIGURES).glob("*.png"))
            self._add("results", "results", folder, [*_tables(folder), *pictures])
            if checkpoint is not None:
                self._add("checkpoint", "model", checkpoint.parent, [checkpoint])
        # what has been logged until now is still to be sent
        except Exception as error:
            say(f"W&B has not got the files of the run ({shown(error)}); they are in {folder}.")

    def _add(self, name: str, kind: str, base: Path, paths: list[Path]) -> None:
        import wandb

        run = self.logger.experiment
        artifact = wandb.Artifact(f"{name}-{run.id}", kind)
        for path in paths:
            if path.stat().st_size <= LARGEST:
                # as it lies in the run folder: offline, W&B would keep a copy of each for good
                artifact.add_file(str(path), str(path.relative_to(base)), skip_cache=True, policy="immutable")
            else:
                run.summary[f"left out/{path.name}"] = f"larger than {LARGEST // 10**6} MB"
        if artifact.manifest.entries:
            # online it asks the server first
            in_time(lambda: run.log_artifact(artifact), PATIENCE)

    def close(self, status: str) -> None:
        """Nothing: :func:`taut.training.loggers.tracker.finish` closes the run, with its exit code."""


KINDS: dict[type[Logger], type[Contents]] = {
    WandbLogger: OfWandb,
    TensorBoardLogger: OfTensorBoard,
    MLFlowLogger: OfMLflow,
}


def contents_of(logger: Logger) -> Contents:
    """What can be put into a logger."""
    return next((kind for known, kind in KINDS.items() if isinstance(logger, known)), Contents)(logger)


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names such as ``optimizer/lr``."""
    flat = {}
    for name, value in settings.items():
        nested = isinstance(value, Mapping) and value
        flat |= flat_settings(value, f"{prefix}{name}/") if nested else {f"{prefix}{name}": value}
    return flat


def _tables(folder: Path) -> list[Path]:
    return [path for path in (folder / RESULT, folder / METRICS) if path.exists()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
