"""Runs of a sweep, from the jobs Hydra asks for to the table at the end: plan, check, run, tell."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import track

from taut.commands.sweep import engines
from taut.commands.sweep.configs import Compose, Configs
from taut.commands.sweep.dry_run import rehearse
from taut.commands.sweep.job import LOCK, LOG, Job, Status
from taut.commands.sweep.plan import Plan, digest, refuse_changes
from taut.commands.sweep.show import Progress
from taut.commands.sweep.supervise import Command
from taut.config.overrides import own_words
from taut.config.pieces import NeedsTrust, environment
from taut.config.program import Program
from taut.config.resume import quoted
from taut.errors import RunError, UserError
from taut.files import held
from taut.report.tables.jobs import jobs_table, write_jobs

Explain = Callable[[Exception, list[str]], str]


@dataclass(frozen=True)
class Candidate:
    """A job Hydra asks for: its words, its config, and why it cannot run, if it cannot."""

    words: list[str]
    cfg: DictConfig | None
    wrong: str | None

    @property
    def digest(self) -> str:
        """Digest of its config."""
        return "" if self.cfg is None else digest(self.cfg)


@dataclass
class Driver:
    """One sweep from the command line to its table.

    Args:
        program: What was started.
        flags: Flags of Hydra that every job is started with.
        command: The words of the sweep.
        resume: None to leave failed jobs alone, ``true`` to run them again, ``merge`` to do so and add jobs.
        explain: One sentence for what Hydra refuses.
    """

    current: ClassVar["Driver | None"] = None

    program: Program
    flags: list[str]
    command: list[str]
    resume: str | None
    explain: Explain
    folder: Path | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Be the driver that Hydra's launcher finds, and let go of the sweep's folder afterwards."""
        Driver.current = self
        try:
            with self._open:
                yield
        finally:
            Driver.current = None

    def launch(self, cfg: DictConfig, asked: Sequence[Sequence[str]], first: int, compose: Compose) -> list[float]:
        """Run jobs of the sweep; their scores, NaN for those without.

        Args:
            cfg: The config of the sweep, with Hydra's part.
            asked: The words of each job.
            first: Number of jobs launched before; a sweeper that learns asks several times.
            compose: The task config for the words of a job.

        Raises:
            UserError: If none of them can run, or they are not those of the sweep in the folder.
        """
        engines.refuse_unavailable(cfg.launcher, len(asked))
        console = Console(stderr=True)
        shown = track(asked, "Composing the jobs", console=console, transient=True, disable=not console.is_terminal)
        configs = Configs(compose)
        candidates = [self._candidate(list(words), cfg, configs) for words in shown]
        folder = Path(cfg.hydra.sweep.dir).absolute()
        earlier = Plan.read(folder)
        if cfg.sweep.rehearse:
            candidates = _rehearsed(candidates, earlier)
        if earlier is None and candidates and all(one.wrong for one in candidates):
            raise UserError(str(candidates[0].wrong))
        wanted = [(one.words, one.digest) for one in candidates]
        if earlier is not None:
            refuse_changes(earlier, wanted, merge=self.resume == "merge" or first > 0)
        self._take(folder)
        # written before any job starts, so that a kill leaves a sweep which can go on
        plan = (earlier or Plan(folder.name, self.command, [])).joined(wanted).write(folder)
        jobs = [plan.job(one.words) for one in candidates]
        wrong = {job.folder: one.wrong for one, job in zip(candidates, jobs, strict=True) if one.wrong}
        for name, why in wrong.items():
            print(f"{name} cannot run: {why}", file=sys.stderr, flush=True)
            _mark_wrong(folder / name, why)
        # once each: words that are given twice are one job
        self._run(plan, list({job.folder: job for job in jobs if job.folder not in wrong}.values()), cfg)
        scores = [Status.read(folder / job.folder).score for job in jobs]
        return [float("nan") if score is None else score for score in scores]

    def conclude(self) -> None:
        """Show the table of all jobs and write ``jobs.csv``.

        Raises:
            RunError: If jobs failed.
        """
        if self.folder is None:
            return
        plan = Plan.read(self.folder)
        assert plan is not None
        states = {job.folder: Status.read(self.folder / job.folder) for job in plan.jobs}
        write_jobs(self.folder, plan.jobs, states)
        Console().print(jobs_table(self.folder, plan.jobs, states))
        failed = [name for name, status in states.items() if status.state == "failed"]
        if failed:
            raise RunError(
                f"{len(failed)} of {len(states)} jobs failed; their logs are {_shown(self.folder)}/<job>/{LOG}. "
                "Add resume=true to run them again."
            )

    def _candidate(self, words: list[str], cfg: DictConfig, configs: Configs) -> Candidate:
        words = own_words(words)
        try:
            composed = configs.composed(words)
            if cfg.launcher.engine == "joblib" and cfg.launcher.n_jobs > 1 and composed.threads is None:
                # jobs side by side would each start a thread per core and slow one another down
                words = [*words, "threads=1"]
                composed.threads = 1
            configs.check(words, composed)
        # of all jobs alike, and not the end of those that have run
        except NeedsTrust:
            raise
        except UserError as error:
            return Candidate(words, None, str(error))
        except (HydraException, OmegaConfBaseException) as error:
            return Candidate(words, None, self.explain(error, words))
        return Candidate(words, composed, None)

    def _take(self, folder: Path) -> None:
        """Be the only driver of a sweep.

        Raises:
            UserError: If another one is at work.
        """
        if self.folder is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # bool() is False: a second driver is refused at once
            self._open.enter_context(held(folder / LOCK, wait=bool))
        except BlockingIOError:
            raise UserError(
                f"The sweep {_shown(folder)} is being run by another process; wait for it, or give this one a folder "
                "of its own: hydra.sweep.dir=<new folder>."
            ) from None
        self.folder = folder

    def _run(self, plan: Plan, jobs: Sequence[Job], cfg: DictConfig) -> None:
        assert self.folder is not None
        engines.settle(cfg.launcher, self.folder)
        pending = [job for job in jobs if self._is_due(job)]
        commands = [self._command(job, plan, cfg.sweep) for job in pending]
        with Progress(plan.name, len(jobs), len(jobs) - len(pending)) as progress:
            engines.run(
                commands,
                cfg.launcher,
                self.folder,
                lambda index, status: progress.tell(pending[index].folder, status),
            )

    def _is_due(self, job: Job) -> bool:
        assert self.folder is not None
        state = Status.read(self.folder / job.folder).state
        return state != "finished" and (state != "failed" or self.resume is not None)

    def _command(self, job: Job, plan: Plan, sweep: DictConfig) -> Command:
        assert self.folder is not None
        folder = self.folder / job.folder
        place = quoted(str(folder))
        # quoted: a folder may be named 10, a number that W&B does not take, or as Hydra's grammar reads otherwise
        own = [f"hydra.run.dir={place}", f"sweep.name={quoted(plan.name)}"]
        words = [*self.flags, *job.words, "hydra.mode=RUN", *own]
        evaluate = None if sweep.evaluate is None else shlex.split(sweep.evaluate)
        # what is trusted, too: a cluster may be set up to hand on no environment
        return Command(folder, words, self.program, evaluate, sweep.timeout, environment())


def _rehearsed(candidates: Sequence[Candidate], plan: Plan | None) -> list[Candidate]:
    """Candidates with what building a model finds wrong about those that are new."""
    new = [each for each in candidates if each.cfg is not None and (plan is None or each.words not in plan)]
    refusals = dict(zip(map(id, new), rehearse([each.cfg for each in new if each.cfg is not None]), strict=True))
    return [replace(each, wrong=each.wrong or refusals.get(id(each))) for each in candidates]


def _mark_wrong(folder: Path, wrong: str) -> None:
    """A job that cannot run has failed before it was started."""
    status = Status("failed", reason=wrong, exit_code=2)
    if Status.read(folder) != status:
        folder.mkdir(parents=True, exist_ok=True)
        status.write(folder)


def _shown(folder: Path) -> str:
    near = os.path.relpath(folder)
    return str(folder) if near.startswith("..") else near


def job_return(score: float) -> Any:
    """Result of a job in the form that Hydra's sweepers read."""
    from hydra.core.utils import JobReturn, JobStatus

    done = JobReturn()
    done.return_value, done.status = score, JobStatus.COMPLETED
    return done
