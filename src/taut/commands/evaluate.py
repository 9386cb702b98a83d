"""The command that evaluates a run: measure it, write and print what was found, and put several runs side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.console import Console, RenderableType
from rich.text import Text

from taut.api.evaluation import Evaluated, Evaluation
from taut.api.evaluation_figures import bar, evaluation_figures
from taut.commands.base import Output, measure_run
from taut.config.run_folder import FIGURES
from taut.evidence.summary import columns, plain
from taut.files import from_here, write_json, write_table
from taut.report import figures
from taut.report.rank.candidates import score_sets
from taut.report.rank.incomparable import incomparable
from taut.report.read.runs import names_of, read_run
from taut.report.tables.evaluation import comparable, comparison_tables, evaluation_tables
from taut.report.tables.sections import section
from taut.report.tables.terminal import answered, meant, not_compared
from taut.training import loggers
from taut.training.stored_run import Run


@dataclass(frozen=True)
class EvaluateOutput(Output):
    """The output of one evaluation.

    Args:
        cfg: The config of the command.
        run: The run that was evaluated.
        result: What goes into ``result.json``.
        found: The same, with the numbers of each datum.
    """

    found: Evaluated

    @property
    def folder(self) -> Path:
        return self.run.folder / self.cfg.out

    def write_details(self, folder: Path) -> None:
        found = self.found
        for name, figure in evaluation_figures(found.result, found.measured, found.data, self.cfg.split):
            figures.save(figure, folder / FIGURES / f"{name}.png")
        for split, scores in found.measured.items():
            name = "data.csv" if split == self.cfg.split else f"data_{split}.csv"
            write_table(folder / name, columns(scores, found.gaps.get(split)))

    def export(self) -> Sequence[Path]:
        return ()

    def tables(self, width: int) -> Sequence[RenderableType]:
        return evaluation_tables(self.result, width)

    def record(self) -> None:
        loggers.record_evaluation(self.run.cfg, self.run.folder, self.run.name, self.result, self.folder)


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate the run that ``cfg`` names and return what goes into ``evaluation/result.json``.

    Raises:
        UserError: If the run cannot be read, or an estimator does not fit its model.
    """
    return measure_run(cfg, Evaluation, cfg.share, _output)


def _output(cfg: DictConfig, run: Run, found: Evaluated) -> EvaluateOutput:
    return EvaluateOutput(cfg, run, found.result, found)


def compare(results: Sequence[Mapping[str, Any]]) -> None:
    """Put the evaluations of several runs side by side, those of other data or binarisations apart."""
    folder = Path(HydraConfig.get().sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", plain(list(results)))
    console = Console()
    labels = _called(results)
    for table in [*comparison_tables(results, labels), *differences([Path(result["folder"]) for result in results])]:
        console.print(table)
    groups = list(comparable(results).values())
    for i, group in enumerate(groups, 1):
        several = len(groups) > 1
        figure = comparison_figure(
            group, _called(group), f": {group[0]['data']}, {group[0]['binarisation']}" if several else ""
        )
        if figure is not None:
            figures.save(figure, folder / (f"gaps_{i}.png" if several else "gaps.png"))
    for label, result in zip(labels, results, strict=True):
        # a path that wraps cannot be copied
        console.print(Text(f"{label}: {from_here(Path(result['folder']))}", style="dim"), soft_wrap=True)
    console.print(Text(from_here(folder), style="dim"), soft_wrap=True)


def differences(folders: Sequence[Path]) -> Iterator[RenderableType]:
    """Which of some evaluations is better and by how much at least, as the report says it.

    Args:
        folders: Those of the evaluations, each inside that of its run.
    """
    runs = []
    for folder in dict.fromkeys(folders):
        run = read_run(folder.parent)
        runs.append(replace(run, tested=None, evaluations={folder.name: run.evaluations[folder.name]}))
    places, names = {id(run): place for place, run in enumerate(runs)}, names_of(runs)
    sets = score_sets(runs)
    sections = [section(scores, places, names) for scores in sets if len(scores.entries) > 1]
    for one in sections:
        yield from answered(one)
    yield from meant(sections)
    yield from not_compared(incomparable(sets, lambda run: names.labels[places[id(run)]]))


def _called(results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Short names of the runs of some evaluations: what they differ in."""
    return names_of([read_run(Path(result["folder"]).parent) for result in results]).labels


def comparison_figure(results: Sequence[Mapping[str, Any]], labels: Sequence[str], where: str = "") -> Figure | None:
    """The gap of every run in its two parts, if it was taken apart; ``where`` tells several such pictures apart."""
    splits = {split for result in results for split in result["apart"]}
    # a split that all bars are of is said once
    only = f", {min(splits)} split" if len(splits) == 1 else ""
    rows = [
        bar(label if only else f"{label}, {split}", gap)
        for label, result in zip(labels, results, strict=True)
        for split, gap in result["apart"].items()
    ]
    return figures.stacked_gaps(rows, title=f"The gap taken apart{where}{only}") if rows else None
