"""Hydra's launcher and sweeper for ``train.py``: every job is a process of its own."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
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
        scores = driver.launch(self.config, job_overrides, initial_job_idx, self._compose)
        return [job_return(score) for score in scores]

    def _compose(self, words: list[str]) -> DictConfig:
        cfg = self.context.config_loader.load_sweep_config(self.config, words)
        # a config of Hydra is in struct mode, which refuses to drop keys
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg


class GridSweeper(BasicSweeper):
    """Hydra's grid, in one batch whose configs the driver composes and checks before the first job starts."""

    def sweep(self, arguments: list[str]) -> Any:
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = parser.parse_overrides([*self._parse_config(), *arguments])
        (batch,) = self.split_arguments(words, max_batch_size=None)
        return self.launcher.launch(batch, initial_job_idx=0)
