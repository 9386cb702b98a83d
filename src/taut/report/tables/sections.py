"""The tables of a report: one row for each run, and one for each setting that was trained from several seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taut.report.rank import criteria
from taut.report.rank.answers import Answers, answers, best_validations
from taut.report.rank.candidates import Candidate, Entry, ScoreSet, labels_of, settings_of
from taut.report.rank.ranking import Over
from taut.report.read.runs import Names, Run, names_of, shared_words
from taut.report.tables.cells import (
    Cell,
    Column,
    Marks,
    Row,
    bound_cell,
    grouped,
    measured,
    measured_cells,
    named,
    seconds_cell,
    word_cell,
)
from taut.report.tables.notes import Note, notes_of

MOST_WORDS = 8
"""Columns for what the runs differ in."""
SAID = ("data", "binarisation", "likelihood", "mask")
"""What the heading of a set says."""


@dataclass(frozen=True)
class Section:
    """One set of comparable scores, ready to be shown.

    Args:
        scores: The set.
        names: What its runs are called there.
        runs: The place of each of its entries in the report.
        details: How it was scored, and what its runs alone have in common.
        found: The answer first, and how it was found.
        validations: The best validation bound at each k.
        columns: Heads of its table.
        rows: Its table.
        group_columns: Heads of the table of settings.
        groups: A row for each setting, with means over its seeds; empty unless one has several.
        notes: What is void, what binds, what did not converge, what is doubted.
        splits: Splits of the data for which a gap was taken apart.
    """

    scores: ScoreSet
    names: Names
    runs: Sequence[int]
    details: str
    found: Answers
    validations: Sequence[tuple[str, str, str]]
    columns: Sequence[Column]
    rows: Sequence[Row]
    group_columns: Sequence[Column]
    groups: Sequence[Row]
    notes: Sequence[Note]
    splits: Sequence[str]


def section(scores: ScoreSet, place: Mapping[int, int], all_names: Names) -> Section:
    """Everything that is said of one set of comparable scores.

    Args:
        scores: The set.
        place: For each run, by its identity, its place in the report.
        all_names: What the runs of the whole report are called.
    """
    entries, settings = list(scores.entries), settings_of(scores.entries)
    names = _names(entries)
    # by identity: an entry holds dictionaries, which cannot be hashed
    called = {(id(one),): name for one, name in zip(entries, names.labels, strict=True)}
    groups = dict(zip(map(_key, settings), labels_of(settings), strict=True)) | called
    found = answers(scores, lambda one: groups[_key(one)])
    words, given = list(names.varied)[:MOST_WORDS], criteria.given(settings)
    heads = measured(scores, given)
    shared = shared_words(all_names, [place[id(one.run)] for one in entries], without=SAID)[:MOST_WORDS]
    table = _Table(scores, place, found.over, _marks(found), given)
    return Section(
        scores,
        names,
        [place[id(one.run)] for one in entries],
        "; ".join([scores.details, *([f"{' '.join(shared)} throughout"] if shared else [])]),
        found,
        best_validations(scores, lambda entry: called[(id(entry),)]) if scores.source == "test" else [],
        [*named(words, names), *heads],
        [
            table.row(one, _run_cell(name, one.run), [word_cell(names.varied[word][index]) for word in words])
            for index, (one, name) in enumerate(zip(entries, names.labels, strict=True))
        ],
        grouped(heads),
        [table.group(one, groups[_key(one)]) for one in settings] if any(one.seeds > 1 for one in settings) else [],
        notes_of(scores, names.labels),
        list(dict.fromkeys(split for one in entries for split in one.scores.apart)),
    )


def _names(entries: Sequence[Entry]) -> Names:
    """Names of entries: those of their runs, and of the folder of the evaluation where a run has several."""
    runs = list({id(entry.run): entry.run for entry in entries}.values())
    names, counted = names_of(runs), Counter(id(entry.run) for entry in entries)
    places = [next(i for i, run in enumerate(runs) if run is entry.run) for entry in entries]
    labels = [
        f"{names.labels[place]}, {Path(entry.scores.table).parent}"
        if counted[id(entry.run)] > 1
        else names.labels[place]
        for entry, place in zip(entries, places, strict=True)
    ]
    varied = {name: [values[place] for place in places] for name, values in names.varied.items()}
    return replace(names, labels=labels, series=[names.series[place] for place in places], varied=varied)


@dataclass(frozen=True)
class _Table:
    """Context shared by the rows of one set.

    Args:
        scores: The set.
        place: For each run, by its identity, its place in the report.
        over: What was compared over: settings over their seeds, or runs over the data.
        marks: Who leads which column.
        given: Information criteria that have a column.
    """

    scores: ScoreSet
    place: Mapping[int, int]
    over: Over
    marks: Mapping[tuple[int, ...], Marks]
    given: Sequence[str]

    def row(self, entry: Entry, name: Cell, words: Sequence[Cell]) -> Row:
        """The row of a run."""
        run = Candidate([entry])
        return Row([self.place[id(entry.run)]], [name, *words, *self._measured(run, self.marks.get(_key(run), {}))])

    def group(self, setting: Candidate, name: str) -> Row:
        """The row of a setting."""
        runs = [self.place[id(entry.run)] for entry in setting.entries]
        seeds = Cell(str(setting.seeds), setting.seeds)
        return Row(runs, [Cell(name, name), seeds, *self._measured(setting, self._of_settings(setting))])

    def _of_settings(self, setting: Candidate) -> Marks:
        """Its marks, unless single runs were compared: a mark in this table is about settings."""
        marks, columns = self.marks.get(_key(setting), {}), [name.upper() for name in self.given]
        return {name: mark for name, mark in marks.items() if self.over == "seeds" or name in columns}

    def _measured(self, candidate: Candidate, marks: Marks) -> list[Cell]:
        return measured_cells(candidate, self.scores.source, marks, self.given)


def _run_cell(name: str, run: Run) -> Cell:
    return Cell(name, run.name, note=run.name if name != run.name else "")


def _marks(found: Answers) -> dict[tuple[int, ...], dict[str, str]]:
    """For each candidate, the columns that it leads or cannot be told apart in."""
    marks: dict[tuple[int, ...], dict[str, str]] = {}
    for answer in found.answers:
        if answer.verdict == "alone":
            continue
        for candidate in answer.tied:
            marks.setdefault(_key(candidate), {})[answer.column] = "tied"
        marks.setdefault(_key(answer.first), {})[answer.column] = "first"
    return marks


def _key(candidate: Candidate) -> tuple[int, ...]:
    return tuple(map(id, candidate.entries))


def state_cells(run: Run) -> list[Cell]:
    """Progress of a run without scores: state, epochs, best validation bound so far, seconds, reason."""
    goal = run.config.get("trainer.max_epochs", "")
    epochs = "" if run.epochs is None else f"{run.epochs} of {goal}" if goal else str(run.epochs)
    return [
        Cell(run.state, run.state),
        Cell(epochs, run.epochs),
        bound_cell(run.validation, run.k),
        seconds_cell(run.seconds),
        Cell(run.reason, run.reason or None),
    ]
