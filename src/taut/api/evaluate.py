"""Evaluation of a run in Python: the numbers of ``evaluate.py``, as an object that shows itself."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import io
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console

from taut.api.evaluation import Evaluated, Evaluation
from taut.api.evaluation_figures import evaluation_figures
from taut.api.model import Run, load
from taut.errors import UserError, nearest
from taut.evidence import AIS, BDMC, UK, Evidence, Exact, Importance, Jackknife, Modes, Naive, Struski, Sumo, Uniform
from taut.evidence.summary import columns
from taut.functional.arrays import whole
from taut.report.tables.evaluation import evaluation_tables
from taut.runtime.processes import Processes
from taut.runtime.untouched import untouched

Split = Literal["train", "val", "test"]
ESTIMATORS: dict[str, type[Evidence]] = {
    estimator.name: estimator
    for estimator in (Exact, Naive, Uniform, Importance, Jackknife, Sumo, AIS, Struski, UK, BDMC, Modes)
}
DEFAULT = ("importance", "jackknife", "struski")
WIDTH = 100
"""Columns of the tables."""


class EvaluationReport:
    """What an evaluation found: tables in a terminal and in a notebook, pictures, and the numbers behind them.

    Args:
        found: The numbers.
        split: The split that was evaluated.

    Attributes:
        result: Every number with its kind and errors, as ``evaluate.py`` writes it to ``result.json``.
        evidence: The part of it that is about the estimators, by name.
        gap: The part of it that is about the gap: the ends of the interval, each with its errors.
        warnings: Sentences on what cannot be trusted.
    """

    def __init__(self, found: Evaluated, split: str) -> None:
        self._found, self._split = found, split
        self.result = found.result
        self.evidence: dict[str, dict[str, Any]] = found.result["evidence"]
        self.gap: dict[str, Any] = found.result["gap"]
        self.warnings: list[str] = [*found.result["void"], *found.result["warnings"]]

    def __repr__(self) -> str:
        return self._printed().export_text().rstrip()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        style = "font-family: monospace; line-height: 1.25; white-space: pre; overflow-x: auto"
        return self._printed().export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')

    def _printed(self) -> Console:
        # a file of its own: nothing goes to the terminal
        console = Console(width=WIDTH, record=True, file=io.StringIO(), force_jupyter=False)
        for table in evaluation_tables(self.result, WIDTH):
            console.print(table)
        return console

    @cached_property
    def _figures(self) -> dict[str, Figure]:
        found = self._found
        return dict(evaluation_figures(found.result, found.measured, found.data, self._split))

    @property
    def figures(self) -> list[str]:
        """Names of the pictures there are."""
        return list(self._figures)

    def figure(self, name: str = "bracket") -> Figure:
        """A picture: ``bracket``, ``thermodynamic``, ``gaps``, ``equal_cost`` or ``gap_apart``.

        Raises:
            UserError: If this evaluation has none of that name.
        """
        if name not in self._figures:
            raise UserError(f"There is no figure {name!r} of this evaluation; {nearest(name, self._figures)}")
        return self._figures[name]

    def data(self) -> Any:
        """A data frame of pandas with a row for each datum: values, errors and diagnostics of every estimator.

        Raises:
            ImportError: If pandas is not installed.
        """
        table = columns(self._found.measured[self._split], self._found.gaps.get(self._split))
        return pa.table({name: values.numpy() for name, values in table.items()}).to_pandas()


STEPS = 1000
"""Of the local search for the best q of each datum."""


def evaluate(
    run: Run | str | Path,
    *,
    evidence: Sequence[str | Evidence] = DEFAULT,
    split: Split = "test",
    limit: int | None = 1000,
    k: int = 1000,
    seed: int = 0,
    gap_apart: bool = False,
    simulated: int | None = None,
    confidence: float = 0.95,
    tolerance: float | None = None,
    per_datum: bool = False,
    budget: int = 200_000,
    progress: bool = False,
) -> EvaluationReport:
    r"""Bracket $\log p(x)$ of a run from both sides, and measure the gap; nothing is written.

    The numbers are those of ``evaluate.py`` with the same settings.

    Args:
        run: A run, or its folder.
        evidence: Estimators, by name or as objects of :mod:`taut.evidence` with settings of their own.
        split: ``train``, ``val`` or ``test``.
        limit: Take the first so many rows of the split; ``None`` for all.
        k: Number of samples K of the ELBO, and of the estimators that are given by name and take one.
        seed: Seed of the noise.
        gap_apart: Take the gap apart into approximation and amortisation gap, which takes minutes.
        simulated: Data simulated from the model, for the estimators that need them; ``None`` for as many as rows, at
            most 100.
        confidence: Of the certificates, and of the bracket that ``tolerance`` asks for.
        tolerance: Bracket the mean of $\log p(x)$ to within so many nats, with as many samples as it takes.
        per_datum: Bracket that of every datum.
        budget: Evaluations of $\log p(x, z)$ that ``tolerance`` may take for each datum; a gradient counts as three.
        progress: Show bars.

    Raises:
        UserError: If an argument is out of range, or an estimator does not fit the model.
        RunError: If a value is not a number.
    """
    run = run if isinstance(run, Run) else load(run)
    if split not in get_args(Split):
        raise UserError(f"split={split!r} is not known; choose {', '.join(get_args(Split))}.")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise UserError(f"tolerance={tolerance!r} must be a finite number above 0, or None.")
    cfg: dict[str, Any] = {
        **shared_settings(evidence, k, seed, gap_apart, simulated, confidence, progress),
        "split": split,
        "limit": None if limit is None else whole("limit", limit),
        "tolerance": None if tolerance is None else float(tolerance),
        "per_datum": per_datum,
        "budget": whole("budget", budget, 1000),
        "unfit": "refuse",
        "out": "evaluation",
    }
    settings = DictConfig(cfg, flags={"allow_objects": True})
    processes = Processes(device=run.model.device)
    with untouched(run.stored.precision):
        loaded = (run.model.module, run.data, run.checkpoint)
        return EvaluationReport(Evaluation(settings, run.stored, processes, loaded).run_all(), split)


def shared_settings(
    evidence: Sequence[str | Evidence],
    k: int,
    seed: int,
    gap_apart: bool,
    simulated: int | None,
    confidence: float,
    progress: bool,
) -> dict[str, Any]:
    """Settings that an evaluation and an audit have in common, as their configs name them.

    Raises:
        UserError: If one is out of range.
    """
    if not 0 < confidence < 1:
        raise UserError(f"confidence={confidence!r} must lie between 0 and 1.")
    k = whole("k", k)
    estimators = [estimator_of(one, k) for one in evidence]
    return {
        "k": k,
        "seed": whole("seed", seed, 0),
        "simulated": None if simulated is None else whole("simulated", simulated),
        "confidence": confidence,
        "progress": progress,
        "evidence": {one.name: one for one in estimators},
        "gap": {
            "apart": gap_apart,
            "splits": ["test", "train"],
            "limit": 100,
            "steps": STEPS,
            "samples": 16,
            "lr": 0.05,
        },
    }


def estimator_of(asked: str | Evidence, k: int) -> Evidence:
    """An estimator by its name, with K samples where it takes them; one that is built already as it is.

    Raises:
        UserError: If there is none of that name.
    """
    if isinstance(asked, Evidence):
        return asked
    if asked not in ESTIMATORS:
        raise UserError(f"evidence={asked!r} is not known; {nearest(str(asked), ESTIMATORS)}")
    estimator = ESTIMATORS[asked]
    # as a config hands it to those that name it
    return estimator(**({"k": k} if "k" in estimator.__init__.__annotations__ else {}))
