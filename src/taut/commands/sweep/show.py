"""A sweep on the terminal while it runs."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from taut.commands.sweep.job import Status

STYLES = {"finished": "green", "failed": "bold red", "pruned": "yellow"}


class Progress:
    """One line for each job that ends, and below them a bar with the time left.

    Args:
        name: Name of the sweep.
        total: Number of its jobs.
        done: Of which so many need not run.
    """

    def __init__(self, name: str, total: int, done: int) -> None:
        self.console = Console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=self.console, transient=True)
        self.task = self.bar.add_task(name, total=total, completed=done)
        if done:
            self.console.print(f"{name}: {done} of {total} jobs need not run", style="dim", highlight=False)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.bar.stop()

    def tell(self, job: str, status: Status) -> None:
        """A job has ended."""
        self.bar.advance(self.task)
        line = Text(f"{job}  ").append(status.state, style=STYLES.get(status.state, ""))
        if status.score is not None:
            line.append(f"  {status.score:.3f} nats")
        if status.seconds is not None:
            line.append(f"  {status.seconds:.0f} s", style="dim")
        if status.reason:
            line.append(f"  {status.reason}", style="dim")
        self.bar.console.print(line, highlight=False, soft_wrap=True)
