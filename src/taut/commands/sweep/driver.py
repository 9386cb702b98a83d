"""Runs of a sweep, from the jobs Hydra asks for to the table at the end: plan, check, run, tell."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.text import Text

from taut.commands.sweep import engines
from taut.commands.sweep.configs import Compose, Config, Configs, Explain, rehearse
from taut.commands.sweep.job import LOCK, LOG, Job, Status
from taut.commands.sweep.plan import Plan, digest, refuse_changes
from taut.commands.sweep.show import Progress
from taut.commands.sweep.supervise import Command
from taut.config.overrides import own_words
from taut.config.pieces import NeedsTrust, environment
from taut.config.program import Program, extra
from taut.config.resume import quoted
from taut.config.run_folder import FIGURES, PLAN
from taut.errors import RunError, UserError
from taut.files import from_here, held
from taut.report.read.search import SearchResult
from taut.report.tables.jobs import jobs_table, write_jobs

if TYPE_CHECKING:
    from taut.commands.sweep.search.search import Search


@dataclass(frozen=True)
class Candidate:
    """A job Hydra asks for: its words, its config, and why it cannot run, if it cannot."""

    words: list[str]
    config: Config | None
    wrong: str | None

    @property
    def digest(self) -> str:
        """Digest of its config."""
        return "" if self.config is None else digest(self.config.container)


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
    found: "Search | None" = None
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
        configs = Configs(compose, self.explain)
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

    def search(self, cfg: DictConfig, words: Sequence[Override], compose: Compose) -> None:
        """Run trials that Optuna proposes, one after another or some at a time, until there are enough.

        Args:
            cfg: The config of the sweep, with Hydra's part.
            words: What all trials have in common, and what is varied.
            compose: The task config for the words of a job.

        Raises:
            UserError: If that is no search, or the folder holds another one.
        """
        refuse_search(cfg)
        engines.refuse_unavailable(cfg.launcher, cfg.launcher.n_jobs)
        # optuna, which is an extra
        from taut.commands.sweep.search import study
        from taut.commands.sweep.search.scores import Score
        from taut.commands.sweep.search.search import Search
        from taut.commands.sweep.search.space import Space

        space, configs = Space.of(words), Configs(compose, self.explain)
        if cfg.sweep.sampler == "grid":
            next(space.points())
        probes = [self._candidate(space.words(point), cfg, configs) for point in space.probes()]
        good = [each.config.cfg for each in probes if each.config is not None]
        if not good:
            raise UserError(str(probes[0].wrong))
        score, folder = Score.agreed(cfg.sweep.score, good), Path(cfg.hydra.sweep.dir).absolute()
        if (folder / PLAN).exists() and not (folder / study.JOURNAL).exists():
            raise UserError(
                f"{from_here(folder)} holds a sweep that is not a search; start the search with hydra.sweep.dir=<new>."
            )
        self._take(folder)
        if score.why:
            print(score.why, file=sys.stderr, flush=True)
        jobs = Proposals(self, cfg, configs, list(space.axes))
        self.found = Search(jobs, cfg, folder, space, score, good[0], again=self.resume is not None)
        engines.settle(cfg.launcher, folder)
        with engines.started(cfg.launcher, folder) as engine:
            self.found.run(engine)

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
        result = None if self.found is None else self._found(self.found, plan)
        write_jobs(self.folder, plan.jobs, states, result)
        Console().print(jobs_table(self.folder, plan.jobs, states, result))
        if result is not None:
            tell_best(result)
        failed = [name for name, status in states.items() if status.state == "failed"]
        if failed:
            end = f"{self.found.end} " if self.found is not None and self.found.end else ""
            raise RunError(
                f"{end}{len(failed)} of {len(states)} jobs failed; their logs are {from_here(self.folder)}/<job>/{LOG}."
                " Add resume=true to run them again."
            )

    def _found(self, search: "Search", plan: Plan) -> SearchResult:
        """What a search has found, written down and drawn."""
        # here, since it takes optuna and matplotlib
        from taut.commands.sweep.search.outcome import track, written
        from taut.report.figures.search import save_figures

        result = written(search, plan, self.program.again)
        pictures = save_figures(result, search.folder / FIGURES)
        track(search.cfg.logger, result, search.folder, pictures)
        return result

    def _candidate(self, words: list[str], cfg: DictConfig, configs: Configs) -> Candidate:
        words = own_words(words)
        try:
            config = configs.composed(words)
            if cfg.launcher.engine == "joblib" and cfg.launcher.n_jobs > 1 and config.leaves_threads_open:
                # jobs side by side would each start a thread per core and slow one another down
                words, config = [*words, "threads=1"], config.also(threads=1)
            configs.check(words, config)
        # of all jobs alike, and not the end of those that have run
        except NeedsTrust:
            raise
        except UserError as error:
            return Candidate(words, None, str(error))
        return Candidate(words, config, None)

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
                f"The sweep {from_here(folder)} is being run by another process; wait for it, or give this one a "
                "folder of its own: hydra.sweep.dir=<new folder>."
            ) from None
        self.folder = folder
        Console().print(Text(f"sweep folder: {from_here(folder)}", style="dim"), soft_wrap=True)

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


@dataclass
class Proposals:
    """The jobs of a search, which join the plan of its sweep as they are proposed.

    Args:
        driver: The driver of the sweep.
        cfg: The config of the sweep, with Hydra's part.
        configs: Composes the configs of jobs.
        axes: The keys that are varied, after which jobs are named.
    """

    driver: Driver
    cfg: DictConfig
    configs: Configs
    axes: list[str]

    def planned(self, words: list[str]) -> tuple[Job, DictConfig | None, str | None]:
        """The job of these words, its config, and why it cannot run, if it cannot; it is in the plan from now on.

        Raises:
            UserError: If its config is not what it was.
        """
        candidate, folder = self.driver._candidate(words, self.cfg, self.configs), self.driver.folder
        assert folder is not None
        wanted = [(candidate.words, candidate.digest)]
        plan = Plan.read(folder) or Plan(folder.name, self.driver.command, [])
        refuse_changes(plan, wanted, merge=True)
        if candidate.words not in plan:
            plan = plan.joined(wanted, self.axes).write(folder)
        job = plan.job(candidate.words)
        if candidate.wrong is not None:
            self.refused(job, candidate.wrong)
        return job, None if candidate.config is None else candidate.config.cfg, candidate.wrong

    def refused(self, job: Job, why: str) -> None:
        """A job cannot run: say so, and keep it."""
        assert self.driver.folder is not None
        print(f"{job.folder} cannot run: {why}", file=sys.stderr, flush=True)
        _mark_wrong(self.driver.folder / job.folder, why)

    def command(self, job: Job) -> Command:
        """What runs a job."""
        assert self.driver.folder is not None
        plan = Plan(self.driver.folder.name, self.driver.command, [])
        return self.driver._command(job, plan, self.cfg.sweep)


def refuse_search(cfg: DictConfig) -> None:
    """Refuse a search that cannot be, before anything is composed or written.

    Raises:
        UserError: Naming what is missing, or what does not go together.
    """
    needed = ["optuna", *(["cmaes"] if cfg.sweep.sampler == "cmaes" else [])]
    for name in needed:
        if find_spec(name) is None:
            raise UserError(f"A search needs {name}: {extra('optuna')}.")
    if isinstance(cfg.sweep.score, str) or len(cfg.sweep.score) == 1:
        return
    if cfg.sweep.pruner != "none":
        raise UserError(
            f"sweep.pruner={cfg.sweep.pruner} compares by one score, and sweep.score names several; choose one, or "
            "sweep.pruner=none."
        )
    if cfg.sweep.sampler == "cmaes":
        raise UserError("sweep.sampler=cmaes maximises one score; choose one, or sweep.sampler=tpe.")


def tell_best(result: SearchResult) -> None:
    """Print the best words of a search, ready to paste."""
    console = Console()
    if result.note:
        console.print(Text(result.note, style="dim"), soft_wrap=True)
    if result.best:
        what = "The best trial" if len(result.labels) == 1 else "No trial beats these in every score"
        console.print(Text(f"{what}; to train it once more:"))
    for command in result.best.values():
        console.print(Text(command, style="bold"), soft_wrap=True)


def _rehearsed(candidates: Sequence[Candidate], plan: Plan | None) -> list[Candidate]:
    """Candidates with what building a model finds wrong about those that are new."""
    new = [each for each in candidates if each.config is not None and (plan is None or each.words not in plan)]
    refusals = dict(zip(map(id, new), rehearse([each.config for each in new if each.config is not None]), strict=True))
    return [replace(each, wrong=each.wrong or refusals.get(id(each))) for each in candidates]


def _mark_wrong(folder: Path, wrong: str) -> None:
    """A job that cannot run has failed before it was started."""
    status = Status("failed", reason=wrong, exit_code=2)
    if Status.read(folder) != status:
        folder.mkdir(parents=True, exist_ok=True)
        status.write(folder)


def job_return(score: float) -> Any:
    """Result of a job in the form that Hydra's sweepers read."""
    from hydra.core.utils import JobReturn, JobStatus

    done = JobReturn()
    done.return_value, done.status = score, JobStatus.COMPLETED
    return done
