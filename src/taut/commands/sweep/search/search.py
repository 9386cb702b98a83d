"""A search: ask for a trial, run it as a job of the sweep, stop it if it is far behind, tell what it has scored."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from taut.commands.sweep import engines
from taut.commands.sweep.job import ENDED, PRUNE, Job, Status
from taut.commands.sweep.search import scores
from taut.commands.sweep.search.scores import Score
from taut.commands.sweep.search.space import Space
from taut.commands.sweep.search.study import JOB, KIND, WRONG, behind, note, opened, pruner, sampler, unfinished
from taut.commands.sweep.show import Progress
from taut.commands.sweep.supervise import Command
from taut.files import write_atomically

HOPELESS = 5
"""Trials after which a search ends, if none of them has a score."""
REPEATS = 50
"""Proposals in a row that were tried before, after which a search of finite size ends."""


class Jobs(Protocol):
    """What a search asks of the driver of its sweep."""

    def planned(self, words: list[str]) -> tuple[Job, DictConfig | None, str | None]:
        """The job of these words, its config, and why it cannot run, if it cannot; it is part of the plan."""
        ...

    def refused(self, job: Job, why: str) -> None:
        """A job cannot run."""
        ...

    def command(self, job: Job) -> Command:
        """What runs a job."""
        ...


@dataclass
class Search:
    """One search from its first trial to its last.

    The truth about a job is its ``status.json``, and that about a trial its job: a search that was killed tells Optuna
    what its jobs have come to, runs those that were running, and goes on.

    Args:
        jobs: The driver of the sweep.
        cfg: The config of the sweep, with Hydra's part.
        folder: The folder of the sweep.
        space: What is varied.
        score: What is maximised.
        base: A config of a trial; the others differ from it.
        again: Whether failed trials are run again.
    """

    jobs: Jobs
    cfg: DictConfig
    folder: Path
    space: Space
    score: Score
    base: DictConfig
    again: bool
    end: str = field(default="", init=False)
    study: optuna.Study = field(init=False)
    _running: dict[str, list[optuna.Trial]] = field(default_factory=dict, init=False)
    _looked: dict[str, tuple[int, int]] = field(default_factory=dict, init=False)
    _retried: set[str] = field(default_factory=set, init=False)
    _repeats: int = field(default=0, init=False)

    def run(self, engine: engines.Engine) -> None:
        """Run trials until there are as many as were asked for.

        Args:
            engine: What runs their jobs.

        Raises:
            UserError: If the folder holds another search.
        """
        # how many trials there are, and where they run, changes none of them: a search goes on to more
        shared = [word for key, word in self.space.fixed.items() if key.partition(".")[0] not in ("sweep", "launcher")]
        words = [*shared, *(f"{key} in {axis}" for key, axis in self.space.axes.items())]
        about = {"the score": list(self.score.names), "the words": words}
        self.study = opened(self.folder, about, len(self.score.names))
        self.study.pruner = pruner(self.cfg.sweep.pruner, self.base.trainer.max_epochs)
        left = unfinished(self.study, self.space.axes)
        if self.again:
            self._retry()
        with Progress(self.folder.name, self.trials, len(self._tried) - len(left)) as progress:
            while self._fill(engine, left) or self._running:
                for name, status in engine.wait(set(self._running)):
                    self._look(name, ended=True)
                    for trial in self._running.pop(name):
                        self._tell(trial, name, status)
                    progress.tell(name, status)
                for name in self._running:
                    self._look(name)

    @property
    def trials(self) -> int:
        """Trainings of the whole search; no more than there are points."""
        return min(self.cfg.sweep.trials, self.space.size or self.cfg.sweep.trials)

    @property
    def _tried(self) -> set[str]:
        """Jobs that trials have had; several trials of one point are one."""
        return {trial.user_attrs[JOB] for trial in self._known() if JOB in trial.user_attrs}

    def _known(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def _retry(self) -> None:
        """Have failed trials proposed once more; to Optuna they are new ones, for what was told stays told."""
        for trial in self._known(TrialState.FAIL):
            name = trial.user_attrs.get(JOB)
            if name and name not in self._retried and Status.read(self.folder / name).state == "failed":
                self._retried.add(name)
                self.study.enqueue_trial(trial.params)

    def _fill(self, engine: engines.Engine, left: list[FrozenTrial]) -> bool:
        """Start trials until as many run as may; false if none was started."""
        started = False
        while len(self._running) < self.cfg.launcher.n_jobs and (trial := self._next(left)) is not None:
            job, wrong = self._planned(trial)
            status = Status.read(self.folder / job.folder)
            if job.folder in self._running:
                self._running[job.folder].append(trial)
            elif wrong is not None:
                self._tell(trial, job.folder, Status("failed", reason=wrong))
            elif status.state in ENDED and job.folder not in self._retried:
                self._tell(trial, job.folder, status)
            else:
                self._retried.discard(job.folder)
                if status.state in ENDED:
                    # or it would be taken for the end of the attempt that is about to begin
                    replace(status, state="queued", reason=None).write(self.folder / job.folder)
                self._running[job.folder] = [trial]
                engine.start([self.jobs.command(job)])
                started = True
        return started

    def _planned(self, trial: optuna.Trial) -> tuple[Job, str | None]:
        """The job of a trial, and why it cannot run, if it cannot."""
        job, config, wrong = self.jobs.planned(self.space.words(trial.params))
        if JOB not in trial.user_attrs:
            self._repeats = self._repeats + 1 if job.folder in self._tried else 0
            trial.set_user_attr(JOB, job.folder)
        if config is not None and wrong is None and (wrong := scores.incomparable(self.base, config)):
            self.jobs.refused(job, wrong)
        return job, wrong

    def _next(self, left: list[FrozenTrial]) -> optuna.Trial | None:
        """The next trial: one that was running when the driver ended, or a new one; None at the end of the search."""
        if left:
            return optuna.Trial(self.study, left.pop(0)._trial_id)
        if self._known(TrialState.WAITING):
            return self.study.ask(dict(self.space.axes))
        if self.end or len(self._tried) >= self.trials:
            return None
        if self._is_hopeless():
            self.end = f"The first {HOPELESS} trials have failed, and the search ends with them."
            return None
        if self._repeats >= REPEATS:
            self.end = f"The last {REPEATS} proposals had been tried before, and the search ends with them."
            return None
        name, together = self.cfg.sweep.sampler, self.cfg.launcher.n_jobs
        if name == "grid":
            known = [trial.params for trial in self._known()]
            self.study.enqueue_trial(next(point for point in self.space.points() if point not in known))
        # after a point that was tried before, one at random: a sampler that is sure of itself repeats itself
        name = "random" if self._repeats else name
        self.study.sampler = sampler(name, self.cfg.sweep.seed, self.study, self.trials, together)
        return self.study.ask(dict(self.space.axes))

    def _is_hopeless(self) -> bool:
        failed = {trial.user_attrs.get(JOB) for trial in self._known(TrialState.FAIL)}
        return len(failed) >= HOPELESS and not self._known(TrialState.COMPLETE, TrialState.PRUNED)

    def _look(self, name: str, ended: bool = False) -> None:
        """Tell Optuna what a job has scored since it was last looked at, and give it up if it is far behind."""
        trial, folder = self._running[name][0], self.folder / name
        # a job that was given up may make another epoch until it stops: what it scores then depends on the machine
        if self.cfg.sweep.pruner == "none" or (folder / PRUNE).exists() or not self._has_news(folder):
            return
        (column,) = self.score.names
        told = self._known()[trial.number].intermediate_values
        for row in scores.rows_of(folder):
            step = int(row["epoch"]) + 1
            if column not in row or step in told:
                continue
            note(trial, step, row[column], row.get(scores.error_of(column)))
            if not ended and trial.should_prune():
                why = behind(self.study, self._known()[trial.number])
                write_atomically(folder / PRUNE, f"{why}")
                return

    def _has_news(self, folder: Path) -> bool:
        try:
            status = (folder / scores.METRICS).stat()
        except FileNotFoundError:
            return False
        looked = self._looked.get(folder.name)
        self._looked[folder.name] = (status.st_mtime_ns, status.st_size)
        return looked != self._looked[folder.name]

    def _tell(self, trial: optuna.Trial, name: str, status: Status) -> None:
        """Tell Optuna how a trial has ended."""
        if status.state == "pruned":
            self.study.tell(trial.number, state=TrialState.PRUNED)
            return
        values, wrong = None, status.reason
        if status.state == "finished":
            values, wrong = self._values(trial, self.folder / name)
        if values is not None:
            self.study.tell(trial.number, values)
        else:
            trial.set_user_attr(WRONG, wrong)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _values(self, trial: optuna.Trial, folder: Path) -> tuple[list[float] | None, str | None]:
        """The scores of a finished trial, or why it has none."""
        values, kind = self.score.of(folder), self.score.kind(folder)
        if values is None:
            return None, "it was not validated, and has no score"
        others = {each.user_attrs.get(KIND) for each in self._known(TrialState.COMPLETE)} - {None}
        if kind is not None and others - {kind}:
            return None, f"its log p(x) is {kind}, and that of the other trials {others.pop()}: they cannot be compared"
        trial.set_user_attr(KIND, kind)
        return values, None
