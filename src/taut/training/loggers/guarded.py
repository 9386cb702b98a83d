"""A logger that cannot end a training: its first failure is told in one sentence, and then the run does without it."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from taut.training.loggers.contents import Contents, contents_of
from taut.training.loggers.tracker import WITHOUT, forget, say, shown

TITLES: dict[type[Logger], str] = {WandbLogger: "W&B", TensorBoardLogger: "TensorBoard", MLFlowLogger: "MLflow"}


class Guarded(Logger):
    """Hands everything on to another logger until that raises an exception, of whatever kind and in whatever call.

    It passes for the other one where a callback asks (``isinstance(logger, WandbLogger)``), and offers all its
    methods and attributes.

    Args:
        kind: The class of the other logger.
        opening: Makes the other logger when it is needed first, since some open files or connections at once; none
            where nothing is to be logged.
    """

    def __init__(self, kind: type[Logger], opening: Callable[[], Logger] | None) -> None:
        super().__init__()
        self._kind, self._opening = kind, opening
        self._logger: Logger | None = None
        self._left = opening is None
        self._names: set[str] = set()
        self._step = 0

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return self._kind

    @property
    def title(self) -> str:
        """What users call the logger."""
        return title_of(self._kind)

    @property
    def name(self) -> str | None:
        return self._attempt(lambda: self._opened().name)

    @property
    def version(self) -> int | str | None:
        return self._attempt(lambda: self._opened().version)

    @property
    def save_dir(self) -> str | None:
        return self._attempt(lambda: self._opened().save_dir)

    @property
    def root_dir(self) -> str | None:
        return self._attempt(lambda: self._opened().root_dir)

    @property
    def log_dir(self) -> str | None:
        return self._attempt(lambda: self._opened().log_dir)

    @property
    def group_separator(self) -> str:
        return self._attempt(lambda: self._opened().group_separator) or super().group_separator

    @property
    def experiment(self) -> Any:
        """That of the other logger, or an object that takes any call and does nothing."""
        experiment = self._attempt(lambda: self._opened().experiment)  # type: ignore[attr-defined]
        return _DummyExperiment() if experiment is None else experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._names |= metrics.keys()
        self._step = self._step if step is None else step
        # a copy: what one logger does to it is nothing to the next
        self._attempt(lambda: self._opened().log_metrics(dict(metrics), step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._attempt(lambda: self._opened().log_hyperparams(params, *args, **kwargs))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self._attempt(lambda: self._opened().log_graph(model, input_array))

    def save(self) -> None:
        self._attempt(lambda: self._opened().save())

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self._attempt(lambda: self._opened().after_save_checkpoint(checkpoint_callback))

    def finalize(self, status: str) -> None:
        self._at_the_end(lambda logger: logger.finalize(status))

    def put(self, what: Callable[[Contents], None]) -> None:
        """Add what is no metric: settings, pictures, the final table, files."""
        self._attempt(lambda: what(contents_of(self._opened())))

    def summarise(self, summary: Mapping[str, Any], step: int | None = None) -> None:
        """Add numbers and words about the run as a whole.

        Args:
            summary: By their names.
            step: Where on the axis of steps they stand; at the last metrics by default.
        """
        self.put(lambda contents: contents.summarise(summary, self._step if step is None else step, self._names))

    def close(self, status: str, last: Mapping[str, Any]) -> None:
        """Write what is left.

        Args:
            status: ``success`` or ``failed``, as in Lightning.
            last: Numbers and words to add before, where the logger has been used at all.
        """
        if last:
            self._at_the_end(lambda logger: contents_of(logger).summarise(last, self._step, self._names))
        self._at_the_end(lambda logger: contents_of(logger).close(status))

    def __getattr__(self, name: str) -> Any:
        # of what is asked about any object, a copy or a pickle of one without its attributes among them
        if name.startswith("_"):
            raise AttributeError(name)
        if (logger := self._attempt(self._opened)) is None:
            return lambda *_, **__: None
        value = getattr(logger, name)
        return (lambda *args, **kwargs: self._attempt(lambda: value(*args, **kwargs))) if callable(value) else value

    def _opened(self) -> Logger:
        if self._logger is None:
            assert self._opening is not None
            self._logger = self._opening()
        return self._logger

    def _at_the_end(self, call: Callable[[Logger], Any]) -> None:
        # one that was never used is not opened to be closed
        if (logger := self._logger) is not None:
            self._attempt(lambda: call(logger))

    def _attempt(self, call: Callable[[], Any]) -> Any:
        if self._left:
            return None
        try:
            return call()
        except Exception as error:
            self.leave(error)
            return None

    def leave(self, error: Exception) -> None:
        """Do without the logger from now on, because of an error."""
        self._left = True
        if issubclass(self._kind, WandbLogger):
            forget()
        say(f"{self.title} failed ({shown(error)}); {WITHOUT}")


def title_of(kind: type[Logger]) -> str:
    """What users call a class of loggers."""
    return next((title for known, title in TITLES.items() if issubclass(kind, known)), kind.__name__)


def guarded(logger: Logger) -> Guarded:
    """The same logger, unable to end a training."""
    return logger if type(logger) is Guarded else Guarded(type(logger), lambda: logger)
