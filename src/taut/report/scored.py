"""The scores of a run, or of a setting over its seeds, as cells of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

import numpy as np

from taut.report.candidates import Candidate, Pick
from taut.report.cells import (
    Cell,
    bound_cell,
    bracket_cell,
    criterion_cell,
    plain_cell,
    plus_minus,
    score_cell,
    seconds_cell,
    void_cell,
)
from taut.report.evaluation import number
from taut.report.ranking import ELBO, GAP_LOW, LOG_PX
from taut.report.sentences import label
from taut.report.sets import Source
from taut.report.significance import moments
from taut.report.table import LOW_ESS

Marks = Mapping[str, str]


def measured_cells(candidate: Candidate, source: Source, marks: Marks, given: Sequence[str]) -> list[Cell]:
    """Every score of a run, or its mean over the seeds of a setting, in the order of ``taut.report.heads``.

    Args:
        candidate: A run, or a setting.
        source: Whether it was tested or evaluated.
        marks: By column, ``first`` or ``tied``.
        given: Information criteria that have a column.
    """
    return _tested(candidate, marks, given) if source == "test" else _evaluated(candidate, marks)


def _tested(candidate: Candidate, marks: Marks, given: Sequence[str]) -> list[Cell]:
    entries = candidate.entries
    seconds = [entry.run.seconds for entry in entries if entry.run.seconds is not None]
    bound = _void(candidate, "bound")
    if bound is None:
        score = candidate.score(lambda scores: scores.bound)
        error = _spread(candidate, lambda scores: scores.bound) or plus_minus(score.error if score else None, 3)
        bound = bound_cell(score and score.value, entries[0].run.k, error)
    lowest = [[entry.scores.criteria[name] for entry in entries if name in entry.scores.criteria] for name in given]
    return [
        _validation(candidate),
        _score(candidate, "elbo", ELBO.score, marks.get("ELBO", "")),
        bound,
        _bracket(candidate, "log_px", marks.get("log p(x)", ""), _low_ess(candidate)),
        _bracket(candidate, "gap", marks.get("gap", ""), _low_ess(candidate)),
        _score(candidate, "kl", lambda scores: scores.others.get("kl"), digits=2),
        plain_cell(candidate.score(lambda scores: scores.others.get("active_units")), 0),
        plain_cell(candidate.score(lambda scores: scores.others.get("ess")), 1),
        seconds_cell(fmean(seconds) if seconds else None),
        *(
            criterion_cell(min(values, default=None), marks.get(name.upper(), ""))
            for name, values in zip(given, lowest, strict=True)
        ),
    ]


def _evaluated(candidate: Candidate, marks: Marks) -> list[Cell]:
    scores = candidate.entries[0].scores
    gap, split = scores.gap, scores.about["split"]
    sources = [gap.lower, *([gap.upper] if gap.high else [])] if gap else []
    doubts = [f"{label(name)}: {'; '.join(scores.others[name].doubts)}" for name in sources if name in scores.others]
    doubts = [one for one in doubts if not one.endswith(": ")]
    error = candidate.score(GAP_LOW.score)
    return [
        _score(candidate, "elbo", ELBO.score, marks.get("ELBO", "")),
        _score(candidate, "importance", lambda one: one.others.get("importance")),
        _bracket(candidate, "log_px", marks.get("log p(x)", ""), "; ".join(doubts)),
        Cell(" to ".join(map(label, sources)), " ".join(sources)),
        _bracket(candidate, "gap", marks.get("gap", ""), "; ".join(doubts)),
        Cell() if error is None or error.error is None else Cell(number(error.error), error.error),
        _void(candidate, f"apart {split}")
        or _score(candidate, "", lambda one: one.apart[split].amortisation if split in one.apart else None),
        _void(candidate, f"apart {split}")
        or bracket_cell(candidate.bracket(lambda one: one.apart[split].approximation if split in one.apart else None)),
    ]


def _void(candidate: Candidate, name: str) -> Cell | None:
    """What stands in the place of a score that is void in any of the runs."""
    sentences = [entry.scores.voids[name] for entry in candidate.entries if name in entry.scores.voids]
    return void_cell(sentences[0]) if sentences else None


def _score(candidate: Candidate, name: str, pick: Pick, mark: str = "", digits: int = 3) -> Cell:
    found = _void(candidate, name)
    if found is not None:
        return found
    cell, spread = score_cell(candidate.score(pick), mark, digits), _spread(candidate, pick, digits)
    return replace(cell, note=spread) if spread else cell


def _bracket(candidate: Candidate, name: Literal["log_px", "gap"], mark: str, doubt: str) -> Cell:
    found = _void(candidate, name)
    if found is not None:
        return found
    cell = bracket_cell(candidate.bracket(lambda scores: getattr(scores, name)), mark, doubt)
    spread = _spread(candidate, (LOG_PX if name == "log_px" else GAP_LOW).score)
    return replace(cell, note=spread) if spread else cell


def _validation(candidate: Candidate) -> Cell:
    values = [entries[0].run.validation for entries in candidate.by_seed.values()]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Cell()
    spread = f"sd {number(float(moments(np.array([known]))[1][0]))}" if len(known) > 1 else ""
    return bound_cell(fmean(known), candidate.entries[0].run.k, spread)


def _spread(candidate: Candidate, pick: Pick, digits: int = 3) -> str:
    """The standard deviation over the seeds; empty for a single one."""
    spread = candidate.spread(pick)
    return "" if spread is None else f"sd {number(spread, digits)}"


def _low_ess(candidate: Candidate) -> str:
    for entry in candidate.entries:
        ess, log_px = entry.scores.others.get("ess"), entry.scores.log_px
        if ess is not None and log_px is not None and not log_px.exact and ess.value < LOW_ESS:
            return f"of its importance samples about {ess.value:.1f} count: log p(x) may lie far above its bound"
    return ""
