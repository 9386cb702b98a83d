"""The command line: composes, checks, runs, cleans up and exits with a code that says what happened.

0 finished, 1 an unexpected error (with a traceback) or a failing disk, 2 a mistake in the command, a config or the
data (one sentence), 130 Ctrl-C, 143 SIGTERM.
"""

import errno
import os
import shlex
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from taut.config import overrides, resume
from taut.config.check import check, check_overrides, check_yaml, refuse_processes
from taut.config.compose import Composer, explain, translated
from taut.config.secrets import redacted
from taut.errors import RunError, UserError
from taut.files import CreatedFolder
from taut.runtime import devices, workers
from taut.runtime.launch import first, keep_freed_pages, launched
from taut.runtime.workers import end_with_supervisor

if TYPE_CHECKING:
    from taut.commands.sweep.driver import Driver

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143
ASKS_TO_STOP = (signal.SIGTERM, signal.SIGUSR1)  # the second is what Slurm can send some time before its limit
FLAGS = ("config_dir", "config_path", "config_name")
_asked = Event()  # SIGTERM came outside of fit and test, which have their own answer to it
FAILING_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def run(name: str) -> NoReturn:
    """Run the entry point ``taut.commands.<name>.<name>`` on ``conf/<name>.yaml`` beside the script, and exit."""
    script = Path(sys.modules["__main__"].__file__ or sys.argv[0]).resolve()
    sys.exit(main(name, script.parent / "conf"))


def main(name: str, conf: Path, entry: Callable[[DictConfig], Any] | None = None) -> int:
    """The exit code of one command, ``sys.argv``; ``entry`` stands in for ``taut.commands.<name>.<name>``."""
    _asked.clear()
    workers.end_with_parent()
    end_with_supervisor()
    session = Session(name, conf, entry)
    try:
        with _settings():
            session.run()
    except BaseException as error:
        return session.ended(error)
    return 0


class Session:
    """One command: what it was asked, where it runs, and how it ended.

    In a data-parallel run every process has one; those of the other ranks clean nothing up, and what they have to say
    they tell the first, or the terminal where something else started them.
    """

    def __init__(self, name: str, conf: Path, entry: Callable[[DictConfig], Any] | None) -> None:
        self.name, self.conf, self.entry = name, conf, entry
        self.first = first()
        self.past: resume.Past | None = None
        self.driver: Driver | None = None
        self.created = CreatedFolder()
        self.folder: Path | None = None
        self.error: Exception | None = None
        self.told: set[str] = set()
        self.results: list[Any] = []

    def run(self) -> None:
        """Do what ``sys.argv`` says.

        Raises:
            UserError: If it may not or cannot be done.
        """
        args = overrides.parsed()
        if args.experimental_rerun is not None:
            raise UserError("--experimental-rerun unpickles a file and is not supported; use resume=<run folder>.")
        asks = args.help or args.hydra_help or args.cfg or args.info or args.shell_completion
        if not asks and not (self._prepare(args) if self.first else self._follow(args)):
            return
        composed = hydra.main(version_base="1.3", config_path=str(self.conf), config_name=self.name)(self.job)
        if self.driver is not None:
            with self.driver.active():
                composed()
                self.driver.conclude()
            return
        try:
            composed()
        finally:
            if len(self.results) > 1 and self.first:
                self._compare()
        if self.error is not None:
            raise self.error

    def job(self, cfg: DictConfig) -> Any:
        """What Hydra calls, once or for each job of a sweep."""
        settings = HydraConfig.get()
        self.folder = Path(settings.runtime.output_dir)
        sweeping = settings.mode == RunMode.MULTIRUN
        try:
            check(cfg, self.name)
            devices.check(cfg)
            if sweeping:
                refuse_processes(cfg)
            self.results.append(self._enter(cfg))
            return self.results[-1]
        except Exception as error:
            if isinstance(error, UserError) and self.past is None:
                self.created.remove(self.folder)
            if sweeping:
                self._tell(error)
                raise error from None
            self.error = error
            return None

    def ended(self, error: BaseException) -> int:
        """Say how it ended and give the exit code."""
        left = _left(error)
        if left in (INTERRUPTED, TERMINATED) and self.first:
            self._say(f"Stopped by {'Ctrl-C' if left == INTERRUPTED else 'SIGTERM'}.{self._way_on()}")
        if left is not None:
            return left
        if isinstance(error, UserError):
            self._tell(error)
            return REFUSED
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush into
            return 1
        if isinstance(error, RunError):
            self._say(str(error))
            if isinstance(error, workers.LostProcess):
                self._say(self._way_on().strip())
            return error.code
        if self.folder is None and isinstance(error, (HydraException, OSError)):
            self._say(f"Nothing was started: {str(error).splitlines()[0]}.")
            return REFUSED
        if isinstance(error, OSError) and error.errno in FAILING_DISK:
            self._say(f"The disk failed: {error.strerror} ({error.filename or self.folder}).{self._way_on()}")
            return 1
        self._say("".join(traceback.format_exception(error)).rstrip())
        if self.first:
            self._say(self._way_on().strip())
        return 1

    def _prepare(self, args: Namespace) -> bool:
        """Check the command before Hydra writes anything; false if there is nothing to do."""
        check_overrides(args.overrides)
        for place in (args.config_dir, args.config_path):
            if place and Path(place).is_dir():
                check_yaml(Path(place))
        composer = Composer(self.name, self.conf, args)
        mode = composer.mode(args.overrides)
        if self.name == "train" and mode == RunMode.MULTIRUN:
            self._lead(args, composer)
        elif self.name == "train":
            self.past = resume.read(args.overrides)
        if self.past is not None and not self._continue(args, composer):
            return False
        try:
            self.created = composer.check(args.overrides, mode, new=self.past is None)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, args.overrides, composer.compose, Path(composer.conf))) from error
        return True

    def _lead(self, args: Namespace, composer: Composer) -> None:
        """Become the driver of a sweep.

        Raises:
            UserError: If ``resume`` is none of its words.
        """
        from taut.commands.sweep.driver import Driver

        asked, args.overrides = resume.of_a_sweep(args.overrides)
        kept = [f"--{name.replace('_', '-')}={value}" for name in FLAGS if (value := getattr(args, name))]
        sys.argv[1:] = [*kept, "--multirun", *args.overrides]
        script = Path(sys.argv[0]).resolve()
        script = script if script.is_file() else self.conf.parent / f"{self.name}.py"
        self.driver = Driver(
            script,
            kept,
            list(args.overrides),
            asked,
            lambda error, words: explain(error, words, composer.compose, Path(composer.conf)),
        )

    def _continue(self, args: Namespace, composer: Composer) -> bool:
        past = self.past
        assert past is not None
        if past.finished:
            self._say(f"{past.folder.name} is finished; add e.g. trainer.max_epochs=<more> to train on.")
            return False
        resume.refuse_changed_config(past, composer.compose)
        kept = [word for word in sys.argv[1:] if word not in args.overrides]
        args.overrides = past.overrides
        sys.argv[1:] = [*kept, *past.overrides]
        return True

    def _follow(self, args: Namespace) -> bool:
        """Find the way of the first process, where something else started this one beside it."""
        if launched() is None:
            return True
        composer = Composer(self.name, self.conf, args)
        past = resume.read(args.overrides) if self.name == "train" else None
        if past is not None:
            sys.argv[1:] = [word for word in sys.argv[1:] if word not in args.overrides] + past.overrides
            args.overrides = past.overrides
        composer.check(args.overrides, RunMode.RUN, new=False)
        sys.argv += ["hydra.output_subdir=null", "hydra/job_logging=stdout"]
        return past is None or not past.finished

    def _compare(self) -> None:
        """After a sweep, what the command has to say of all its jobs."""
        compare = getattr(import_module(f"taut.commands.{self.name}"), "compare", None)
        if compare is not None and self.entry is None:
            compare(self.results)

    def _enter(self, cfg: DictConfig) -> Any:
        past = self.past if self.first else None
        if past is not None:
            past.begin()
        try:
            entry = self.entry or getattr(import_module(f"taut.commands.{self.name}"), self.name)
            if _asked.is_set():
                sys.exit(TERMINATED)  # a library may have swallowed the exit
            return entry(cfg)
        except Exception as error:
            error = translated(error)
            if past is not None and isinstance(error, UserError):
                past.take_back()
            raise error

    def _way_on(self) -> str:
        if self.driver is not None and self.driver.folder is not None:
            return " The same command goes on with the sweep."
        if self.folder is None or self.name != "train" or not resume.is_run(self.folder):
            return ""
        folder = os.path.relpath(self.folder)
        folder = str(self.folder) if folder.startswith("..") else folder
        return f" Go on with: python {sys.argv[0]} {shlex.quote(f'resume={folder}')}"

    def _tell(self, error: Exception) -> None:
        if str(error) not in self.told:
            self.told.add(str(error))
            self._say(str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")

    def _say(self, sentence: str) -> None:
        if sentence:
            workers.report_end(redacted(sentence))


@contextmanager
def _settings() -> Iterator[None]:
    """Hydra hands its errors on; idle threads sleep; freed memory is kept; SIGTERM unwinds like an exit.

    OpenMP threads that spin for long make a step ten times slower as soon as another process wants the core; threads
    that sleep at once are slow to wake for a small one. Some microseconds of spinning avoid both.
    """
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"} | os.environ  # before torch is loaded
    keep_freed_pages()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    previous = {number: signal.signal(number, _terminate) for number in ASKS_TO_STOP}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _left(error: BaseException) -> int | None:
    """The exit code of a command that was stopped or that left by itself; ``None`` for an error."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return INTERRUPTED
    if _asked.is_set():
        return TERMINATED  # an import that is cut short can end in any error
    if not isinstance(error, SystemExit):
        return None
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _terminate(*_: Any) -> NoReturn:
    _asked.set()
    sys.exit(TERMINATED)
