"""The command line, from ``sys.argv`` to an exit code: composes a config, checks it, runs its function, cleans up.

0 finished, 1 an unexpected error (with a traceback) or a failing disk, 2 a mistake in the command, a config or the
data (one sentence), 130 Ctrl-C, 143 SIGTERM.
"""

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from taut.config import overrides, resume
from taut.config.check import check, check_overrides, refuse_processes
from taut.config.compose import Composer
from taut.config.error_words import explain, translated
from taut.config.exit_codes import Ending, leave_if_asked, noted, stopped_by_signals
from taut.config.layer_words import with_layers
from taut.config.pieces import as_word
from taut.config.plain_yaml import check_yaml
from taut.config.program import Program
from taut.config.releases import VERSION_BASE
from taut.config.run_folder import Description, refuse_run, sole_writer_of
from taut.errors import UserError
from taut.files import CreatedFolder, from_here
from taut.runtime import devices, threads, workers
from taut.runtime.launch import first, keep_freed_pages, launched
from taut.runtime.workers import end_with_supervisor

if TYPE_CHECKING:
    from taut.commands.sweep.driver import Driver

FLAGS = ("config_dir", "config_path", "config_name")
"""Flags that the jobs of a sweep are started with, too."""
QUIET = ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
"""Words for a process beside the first, which alone describes the run in its folder."""

Function = Callable[..., Any] | str
"""A function, or where it is, ``module:function``, for one that is imported when it is called."""


def run(name: str, function: str, after_sweep: str | None = None) -> NoReturn:
    """Run a command on ``conf/<name>.yaml`` beside the script, and exit.

    Args:
        name: The command.
        function: What runs on the config, as ``module:function``. The libraries behind it take seconds to import, so
            it is imported once the config has been checked, and not for ``--help``.
        after_sweep: What is called with the results of all jobs after several, in the same form.
    """
    script = Path(sys.modules["__main__"].__file__ or sys.argv[0]).resolve()
    sys.exit(main(name, script.parent / "conf", function, after_sweep))


def main(name: str, conf: Path, function: Function, after_sweep: Function | None = None) -> int:
    """The exit code of one command, ``sys.argv``; the arguments are those of ``run``, and the folder of the configs."""
    workers.end_with_parent()
    end_with_supervisor()
    command = Command(name, conf, function, after_sweep)
    try:
        with stopped_by_signals():
            _set_up_process()
            command.run()
    # Ctrl-C and the exit that SIGTERM raises are no Exception, and have exit codes of their own
    except BaseException as error:
        return command.ending.code(error, command.folder)
    return 0


class Command:
    """One command: what it was asked, where it runs, and what came of it.

    In a data-parallel run every process has one; those of the other ranks clean nothing up, and what they have to say
    they tell the first, or the terminal where something else started them.
    """

    def __init__(self, name: str, conf: Path, function: Function, after_sweep: Function | None) -> None:
        self.name, self.conf, self.function, self.after_sweep = name, conf, function, after_sweep
        self.first = first()
        self.ending = Ending(self.first, self._way_on)
        self.past: resume.Past | None = None
        self.before: DictConfig | None = None
        self.description = Description()
        self.held = ExitStack()
        self.again: list[str] = []
        self.driver: Driver | None = None
        self.created = CreatedFolder()
        self.folder: Path | None = None
        self.error: Exception | None = None
        self.results: list[Any] = []
        self.started = threads.Moment.now()

    def run(self) -> None:
        """Do what ``sys.argv`` says.

        Raises:
            UserError: If it may not or cannot be done.
        """
        args = overrides.parsed()
        if self.name == "audit":
            overrides.replace_words(args, overrides.as_loader(args.overrides))
        if self.name == "train":
            overrides.replace_words(args, with_layers(args.overrides))
        self.again = [*_flags(args), *as_word(args.trust)]
        if args.experimental_rerun is not None:
            raise UserError("--experimental-rerun unpickles a file and is not supported; use resume=<run folder>.")
        _check_config_folders(args)
        if args.help or args.hydra_help:
            with Composer(self.name, self.conf, args) as composer:
                composer.show_help(args)
            return
        if args.cfg or args.info or args.shell_completion:
            hydra.main(**VERSION_BASE, config_path=str(self.conf), config_name=self.name)(self._job)()
            return
        if self.name != "train":
            overrides.replace_words(args, overrides.as_added(args.overrides))
        with self.held, Composer(self.name, self.conf, args) as composer:
            cfg = self._checked(args, composer)
            if cfg is None:
                return
            if self.driver is None:
                self._run(cfg, composer)
                return
            with self.driver.active():
                composer.run(cfg, self._job)
                self.driver.conclude()

    def _checked(self, args: Namespace, composer: Composer) -> DictConfig | None:
        """The config to run, with Hydra's part; ``None`` if there is nothing to do."""
        try:
            cfg = self._composed(args, composer) if self.first else self._composed_beside(args, composer)
            if cfg is None:
                return None
            created = composer.check(cfg, new=self.first and self.past is None)
            if self.past is not None and self.before is not None:
                resume.refuse_other_run(self.before, cfg, self.past.new)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, args.overrides, composer.compose, Path(composer.conf))) from error
        if self.first:
            self.created = created
        return cfg

    def _composed(self, args: Namespace, composer: Composer) -> DictConfig | None:
        """The config of what was typed, or of the run that is resumed unless that is finished."""
        check_overrides(args.overrides)
        training, asked = self.name == "train", None
        if training and resume.is_asked(args.overrides):
            if composer.mode(args.overrides) == RunMode.MULTIRUN:
                asked, words = resume.of_a_sweep(args.overrides)
                overrides.replace_words(args, words)
            else:
                self.past = resume.read(args.overrides)
            if self.past is not None and not self._continue(self.past, args, composer):
                return None
        cfg = composer.composed(args.overrides)
        if training and cfg.hydra.mode == RunMode.MULTIRUN:
            self.driver = self._driver(asked, args, composer)
        return cfg

    def _continue(self, past: resume.Past, args: Namespace, composer: Composer) -> bool:
        """Put the words of the run that is resumed in place of those typed; false if it is finished."""
        if not past.finished:
            self.held.enter_context(sole_writer_of(past.folder))
        # asked again: whoever held the folder until now may have finished the run
        if past.finished:
            self.ending.say(f"{past.folder.name} is finished; add e.g. trainer.max_epochs=<more> to train on.")
            return False
        self.before = resume.unchanged_config(past, composer.compose)
        overrides.replace_words(args, past.overrides)
        return True

    def _driver(self, asked: str | None, args: Namespace, composer: Composer) -> "Driver":
        """Driver that runs the jobs of a sweep of trainings."""
        from taut.commands.sweep.driver import Driver

        return Driver(
            Program.started(self.name, self.conf.parent),
            _flags(args),
            list(args.overrides),
            asked,
            lambda error, words: explain(error, words, composer.compose, Path(composer.conf)),
        )

    def _composed_beside(self, args: Namespace, composer: Composer) -> DictConfig | None:
        """The config in a process beside the first: of the words the first gave it, or by the way the first goes."""
        if launched() is not None:
            past = resume.read(args.overrides) if self.name == "train" else None
            if past is not None and past.finished:
                return None
            words = args.overrides if past is None else past.overrides
            overrides.replace_words(args, [*words, *QUIET])
        cfg = composer.composed(args.overrides)
        if cfg.hydra.mode == RunMode.MULTIRUN:
            raise UserError("Several jobs are started by one process; leave out torchrun or srun, or -m.")
        return cfg

    def _run(self, cfg: DictConfig, composer: Composer) -> None:
        """One run, or several of a command whose jobs all run in this process."""
        if self.first and (line := composer.debug(cfg)):
            print(line)
        if self.name == "train" and self.first and self.past is None:
            self._take(Path(cfg.hydra.run.dir).absolute())
        try:
            composer.run(cfg, self._job)
        finally:
            if len(self.results) > 1 and self.first and self.after_sweep is not None:
                _found(self.after_sweep)(self.results)
        if self.error is not None:
            raise self.error

    def _take(self, folder: Path) -> None:
        """Be the writer of a new run folder.

        Raises:
            UserError: If another process is, or was a moment ago.
            OSError: If there are no locks.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.held.enter_context(sole_writer_of(folder))
        except OSError:  # of a file system without locks
            self.created.remove(folder)
            raise
        # again, under the lock: another command may have started a run there in the meantime
        refuse_run(folder)
        self.description = Description.of(folder)

    def _job(self, cfg: DictConfig) -> Any:
        """Run one config; Hydra calls this once, or for each job of a sweep."""
        settings = HydraConfig.get()
        self.folder = Path(settings.runtime.output_dir)
        sweeping = settings.mode == RunMode.MULTIRUN
        try:
            if sweeping:  # Hydra has just composed it; the config of a single run was checked before it came here
                check(cfg, self.name)
                devices.check(cfg)
                refuse_processes(cfg)
            self.results.append(self._call(cfg))
            self._keep_nothing(cfg, self.folder)
            return self.results[-1]
        except Exception as error:
            if isinstance(error, UserError) and self.past is None:
                self.created.remove(self.folder)
                self.description.take_back(self.folder)
            if sweeping:
                self.ending.tell(error)
                raise error from None
            self.error = error  # Hydra would print it its own way
            return None

    def _keep_nothing(self, cfg: DictConfig, folder: Path) -> None:
        """Remove what describes a run that was to keep nothing; a job of a sweep is described by the sweep."""
        if self.name == "train" and cfg.trainer.fast_dev_run and cfg.sweep.name is None and self.past is None:
            self.created.remove(folder)
            self.description.take_back(folder)

    def _call(self, cfg: DictConfig) -> Any:
        try:
            threads.set_wait(self.started)  # before torch is loaded
            with noted():
                function = _found(self.function)
            leave_if_asked()
            return function(cfg)
        except Exception as error:
            error = translated(error)
            raise error

    def _way_on(self) -> str:
        """Sentence on how to continue what was stopped; empty if there is no way."""
        if self.driver is not None and self.driver.folder is not None:
            return " The same command goes on with the sweep."
        if self.folder is None or self.name != "train" or not resume.is_run(self.folder):
            return ""
        words = [*self.again, f"resume={from_here(self.folder)}"]
        return f" Go on with: {Program.started(self.name).again} {shlex.join(words)}"


def _flags(args: Namespace) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name in FLAGS if (value := getattr(args, name))]


def _check_config_folders(args: Namespace) -> None:
    for place in (args.config_dir, args.config_path):
        if place and Path(place).is_dir():
            check_yaml(Path(place))


def _found(function: Function) -> Callable[..., Any]:
    return resolve_name(function) if isinstance(function, str) else function


def _set_up_process() -> None:
    """Have Hydra hand its errors on, and freed memory kept."""
    keep_freed_pages()
    # else Hydra prints an error itself and exits, so that it never reaches Ending
    os.environ["HYDRA_FULL_ERROR"] = "1"
