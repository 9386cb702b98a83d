"""Hydra's launcher and sweeper for trainings: every job is a process of its own."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class JobLauncher(Launcher):
    """Hands the jobs of any sweeper to the driver of the sweep, which runs each in a process of its own."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        del task_function
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        # Hydra imports every plugin at every start: what a sweep alone needs is imported when there is one
        from taut.commands.sweep.driver import Driver, job_return

        # Hydra builds the launcher from the config, so the driver cannot be handed over
        driver = Driver.current
        assert driver is not None
        scores = driver.launch(self.config, job_overrides, initial_job_idx, self.compose)
        return [job_return(score) for score in scores]

    def search(self, words: Sequence[Override]) -> None:
        """Have the driver of the sweep run trials that Optuna proposes, until there are enough."""
        from taut.commands.sweep.driver import Driver

        driver = Driver.current
        assert driver is not None
        driver.search(self.config, words, self.compose)

    def compose(self, words: list[str]) -> DictConfig:
        """The task config of a job."""
        cfg = self.context.config_loader.load_sweep_config(self.config, words)
        # a config of Hydra is in struct mode, which refuses to drop keys
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg


class GridSweeper(Sweeper):
    """Every combination, in one batch whose configs the driver composes and checks before the first job starts.

    Args:
        max_batch_size: Of Hydra's own sweeper, whose keys these are; always null.
        params: Words of a config, before those of the command line.
    """

    def __init__(self, max_batch_size: None = None, params: Mapping[str, str] | None = None) -> None:
        del max_batch_size
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        assert self.launcher is not None
        return self.launcher.launch(combinations(self.words(arguments)), initial_job_idx=0)

    def words(self, arguments: list[str]) -> list[Override]:
        """The words of the config, and behind them those of the command line."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])


class OptunaSweeper(GridSweeper):
    """A search: which job is next depends on what those before it have scored. Its keys are those of ``sweep``."""

    def sweep(self, arguments: list[str]) -> None:
        assert isinstance(self.launcher, JobLauncher)
        self.launcher.search(self.words(arguments))


def combinations(words: Sequence[Override]) -> list[list[str]]:
    """The words of every job: each value of each word with each of the others, the last of them varying fastest.

    Raises:
        HydraException: For a range without an end, such as ``interval(0, 1)``.
    """
    return [list(job) for job in product(*{word.get_key_element(): _values(word) for word in words}.values())]


def _values(word: Override) -> list[str]:
    key = word.get_key_element()
    if not word.is_sweep_override():
        return [f"{key}={word.get_value_element_as_str()}"]
    if not word.is_discrete_sweep():
        raise HydraException(f"{word.input_line} is no list of values; a sweep over it needs one.")
    return [f"{key}={value}" for value in word.sweep_string_iterator()]
