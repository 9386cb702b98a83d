"""The report on the terminal: the answer, one table for each set of comparable scores, and what is not finished."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from taut.report.answers import Answer
from taut.report.files import legible
from taut.report.runs import STATES, Run
from taut.report.tables import MARKS, Cell, Section, state_cells

STYLES = {"finished": "green", "failed": "bold red", "interrupted": "red", "unknown": "red", "running": "cyan"}
LONGEST = 26
"""Letters of a name that stay on one line."""
COLOURS = {"clear": "green", "tie": "yellow", "open": "yellow", "alone": "dim"}


def shown(runs: Sequence[Run], sections: Sequence[Section]) -> Iterator[RenderableType]:
    """Everything worth a look, from the answer to what failed."""
    yield states(runs)
    for section in sections:
        yield Text("")
        yield _heading(section)
        yield from map(_answer, section.answers)
        yield Text("")
        yield _table(section)
    waiting = [run for run in runs if not run.scored]
    if waiting:
        yield Text("")
        yield _waiting(waiting)
    for run in runs:
        if run.state in ("failed", "interrupted", "unknown") or run.problems:
            yield _failure(run)


def states(runs: Sequence[Run]) -> Text:
    """How many runs are in which state."""
    counted = Counter(run.state for run in runs)
    text = Text(f"{len(runs)} run{'' if len(runs) == 1 else 's'}: ", style="bold")
    parts = [Text(f"{counted[state]} {state}", style=STYLES.get(state, "")) for state in STATES[::-1] if counted[state]]
    return text.append_text(Text(", ").join(parts))


def _heading(section: Section) -> Text:
    what = "evaluation" if section.scores.source == "evaluation" else "test at the end of the run"
    text = Text(section.scores.heading, style="bold")
    return text.append(f"\n{what}: {section.details}; nats per datum", style="not bold dim")


def _table(section: Section) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    kept = [place for place, column in enumerate(section.columns) if column.narrow]
    for place in kept:
        column = section.columns[place]
        table.add_column(
            column.label,
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            min_width=None if place else min(LONGEST, max(len(row.cells[0].text) for row in section.rows)),
        )
    for row in section.rows:
        table.add_row(*(_cell(row.cells[place], first=place == 0) for place in kept))
    return table


def _cell(cell: Cell, *, first: bool) -> Text:
    text = Text(cell.text, style="bold" if cell.mark == "first" else "")
    return text if first or not cell.mark else text.append(f" {MARKS[cell.mark]}")


def _answer(answer: Answer) -> Text:
    text = Text(f"{answer.question}: ", style="bold").append(answer.run, style="bold cyan")
    text.append(f"  {answer.value} {answer.error}", style="not bold")
    for sentence in answer.sentences:
        text.append(f"\n  {sentence}", style=f"not bold {COLOURS[answer.verdict]}")
    return text


def _waiting(runs: Sequence[Run]) -> Table:
    title = Text("without scores", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    for name, justify in (("state", "left"), ("epochs", "right"), ("val bound", "right"), ("seconds", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for run in runs:
        state, *others = state_cells(run)[:-1]
        words = (" ".join(part for part in (cell.text, cell.note) if part) for cell in others)
        table.add_row(Text(run.name), Text(state.text, style=STYLES.get(state.text, "")), *map(Text, words))
    return table


def _failure(run: Run) -> Text:
    text = Text(f"{run.name}: ", style="bold red").append(f"{run.state} ", style="not bold")
    text.append(run.reason, style="not bold default")
    if run.log and run.state != "finished":
        text.append(f"  {legible(run.folder / run.log)}", style="not bold dim")
    return text.append("".join(f"\n  {problem}" for problem in run.problems), style="not bold yellow")
