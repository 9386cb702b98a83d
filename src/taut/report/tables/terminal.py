"""The report on the terminal: the answer, one table for each set of comparable scores, and what is not finished."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taut.report.rank.answers import Answer, Answers, meanings
from taut.report.read.files import legible
from taut.report.read.runs import STATES, Run
from taut.report.tables.cells import MARKS, Cell, Column, Row
from taut.report.tables.notes import Note
from taut.report.tables.sections import Section, state_cells
from taut.report.tables.table import LONGEST, NARROW, broken, new_table

STYLES = {
    "finished": "green",
    "pruned": "yellow",
    "failed": "bold red",
    "interrupted": "red",
    "unknown": "red",
    "running": "cyan",
}
COLOURS = {"clear": "green", "tie": "yellow", "open": "yellow", "ranked": "", "alone": "dim"}


def shown(
    runs: Sequence[Run], sections: Sequence[Section], apart: Sequence[str], width: int
) -> Iterator[RenderableType]:
    """Everything worth a look, from the answer to what failed.

    Args:
        runs: All runs.
        sections: The sets of comparable scores.
        apart: Reasons why sets are not compared with one another.
        width: Columns of the terminal.
    """
    yield states(runs)
    for section in sections:
        yield from answered(section)
        if section.groups:
            yield Text("\nmeans over seeds; sd is the standard deviation of one training", style="dim")
            yield _table(section.group_columns, section.groups, width, notes=True)
        yield Text("")
        yield _table(section.columns, section.rows, width)
        yield from (Text(f"? {reason}", style="yellow") for reason in _doubts([*section.groups, *section.rows]))
        yield from (_note(note) for note in section.notes if note.kind != "doubt")
    yield from meant(sections)
    yield from not_compared(apart)
    waiting = [run for run in runs if not run.scored]
    if waiting:
        yield Text("")
        yield _waiting(waiting)
    for run in runs:
        if run.state in ("failed", "interrupted", "unknown", "debug") or run.problems:
            yield _failure(run)


def answered(section: Section) -> Iterator[RenderableType]:
    """What a set of comparable scores says of its runs, and how that was found."""
    yield Text("")
    yield _heading(section)
    if section.found.alone:
        yield _alone(section.found)
    else:
        yield from map(_answer, section.found.answers)
    if section.found.procedure:
        yield Text(" ".join(section.found.procedure), style="dim")


def _doubts(rows: Sequence[Row]) -> list[str]:
    """Reasons why cells carry a ``?``, each once."""
    return list(dict.fromkeys(cell.title for row in rows for cell in row.cells if cell.title and cell.text[-1:] == "?"))


def meant(sections: Sequence[Section]) -> Iterator[RenderableType]:
    """Say what the differences of some sets mean, once for all of them."""
    sentences = meanings([section.found for section in sections])
    if sentences:
        yield Text("")
        yield from (Text(sentence, style="dim") for sentence in sentences)


def not_compared(apart: Sequence[str]) -> Iterator[RenderableType]:
    """Reasons why sets of scores are not compared with one another, if there are several."""
    if apart:
        yield Text("")
        yield from (Text(sentence, style="yellow") for sentence in apart)


def states(runs: Sequence[Run]) -> Text:
    """Number of runs in each state."""
    counted = Counter(run.state for run in runs)
    text = Text(f"{len(runs)} run{'' if len(runs) == 1 else 's'}: ", style="bold")
    parts = [Text(f"{counted[state]} {state}", style=STYLES.get(state, "")) for state in STATES[::-1] if counted[state]]
    return text.append_text(Text(", ").join(parts))


def _heading(section: Section) -> Text:
    what = "evaluation" if section.scores.source == "evaluation" else "test at the end of the run"
    text = Text(section.scores.heading, style="bold")
    return text.append(f"\n{what}: {section.details}; nats per datum", style="not bold dim")


def _table(columns: Sequence[Column], rows: Sequence[Row], width: int, *, notes: bool = False) -> Table:
    """A table of runs or of settings, with heads of two lines where they name a split, and the notes of its cells.

    Notes stand below their values where the terminal has no room beside them.
    """
    cells = [_row(row, " " if notes else "") for row in rows]
    kept = _fitting(columns, cells, width)
    if notes and _taken(columns, cells, kept) > width:
        cells = [_row(row, "\n") for row in rows]
        kept = _fitting(columns, cells, width)
    table = new_table(padding=NARROW, show_edge=False)
    for place in kept:
        column = columns[place]
        table.add_column(
            _head(column),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            min_width=None
            if place
            else min(LONGEST, max(len(line) for row in cells for line in row[0].plain.split("\n"))),
        )
    for row in cells:
        table.add_row(*(row[place] for place in kept))
    return table


def _fitting(columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The places of the columns that a terminal has room for: those of a high rank give way first."""
    kept = [place for place, column in enumerate(columns) if column.terminal]
    while _taken(columns, cells, kept) > width:
        last = max(kept, key=lambda place: (columns[place].terminal, place))
        if columns[last].terminal == 1:
            break
        kept.remove(last)
    return kept


def _taken(columns: Sequence[Column], cells: Sequence[Sequence[Text]], places: Sequence[int]) -> int:
    """Letters that some columns take side by side."""
    texts = ([_head(columns[place]), *(row[place].plain for row in cells)] for place in places)
    wide = [max(len(line) for text in column for line in text.split("\n")) for column in texts]
    return sum([min(wide[0], LONGEST), *wide[1:]]) + 2 * len(wide)


def _head(column: Column) -> str:
    return column.label.replace(": ", ":\n", 1)


def _row(row: Row, before_note: str) -> list[Text]:
    return [_cell(cell, before_note, name=not place) for place, cell in enumerate(row.cells)]


def _cell(cell: Cell, before_note: str, *, name: bool) -> Text:
    """The words of a cell, and its note where there is something to set before it."""
    shown = broken(cell.text) if name else cell.text
    text = Text(shown, style="bold" if cell.mark == "first" else "bold red" if cell.text == "void" else "")
    if cell.mark:
        text.append(f" {MARKS[cell.mark]}")
    return text.append(f"{before_note}{cell.note}", style="not bold dim") if before_note and cell.note else text


def _note(note: Note) -> Text:
    text = Text(f"{note.kind}: ", style="bold red" if note.kind == "void" else "bold yellow")
    return text.append(f"{note.who}: {note.text}", style="not bold default")


def _answer(answer: Answer) -> Text:
    text = Text(f"{answer.rank_key}: ", style="bold").append(answer.run, style="bold cyan")
    text.append(f"  {answer.value} {answer.error}", style="not bold")
    for sentence in answer.sentences:
        text.append(f"\n  {sentence}", style=f"not bold {COLOURS[answer.verdict]}")
    return text


def _alone(found: Answers) -> Text:
    """The scores of a set's single run, each in a line."""
    text = Text(found.alone, style="bold cyan")
    for answer in found.answers:
        text.append(f"\n  {answer.column} ", style="bold default").append(
            f"{answer.value} {answer.error}", style="not bold default"
        )
        for sentence in answer.sentences:
            text.append(f"\n  {sentence}", style="not bold dim")
    return text


def _waiting(runs: Sequence[Run]) -> Table:
    table = new_table(Text("without scores", style="bold"), padding=NARROW)
    table.add_column("run", overflow="fold")
    for name in ("state", "epochs", "validation:\nbound", "seconds"):
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for run in runs:
        state, *others = state_cells(run)[:-1]
        words = (" ".join(part for part in (cell.text, cell.note) if part) for cell in others)
        # as Text, since rich takes square brackets in a string for markup
        table.add_row(Text(broken(run.name)), Text(state.text, style=STYLES.get(state.text, "")), *map(Text, words))
    return table


def _failure(run: Run) -> Text:
    text = Text(f"{run.name}: ", style="bold red").append(f"{run.state} ", style="not bold")
    text.append(run.reason, style="not bold default")
    if run.log and run.state != "finished":
        text.append(f"  {legible(run.folder / run.log)}", style="not bold dim")
    return text.append("".join(f"\n  {problem}" for problem in run.problems), style="not bold yellow")
