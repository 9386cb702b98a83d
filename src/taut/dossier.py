"""What an evaluation leaves behind: a folder, a table in the terminal, an entry in the W&B record."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from taut import figures, loggers
from taut.data.base import Data
from taut.depiction import comparison_figure, depicted
from taut.evidence.gap import Split
from taut.evidence.loop import Answer
from taut.evidence.summary import columns, plain
from taut.files import whole, write_json, write_table
from taut.report.compare import comparable, comparison_tables
from taut.report.evaluation import evaluation_tables
from taut.run import Run

VERSIONED = ("taut", "torch", "lightning", "hydra-core", "arviz-stats")


@dataclass(frozen=True)
class Dossier:
    """One evaluation.

    Args:
        cfg: What was asked.
        run: The run it was asked of.
        result: The numbers and words.
        answers: What was measured of each datum, by split.
        parts: The gap of each datum in parts, by split.
        data: The data of the run.
    """

    cfg: DictConfig
    run: Run
    result: dict[str, Any]
    answers: dict[str, Answer]
    parts: dict[str, Split]
    data: Data

    @property
    def folder(self) -> Path:
        """Where it goes."""
        return self.run.folder / self.cfg.out


def publish(dossier: Dossier) -> None:
    """Write the folder, whole or not at all, print the table, and tell W&B."""
    dossier.result["versions"] = {name: version(name) for name in VERSIONED} | {"python": platform.python_version()}
    with whole(dossier.folder) as partial:
        _write(dossier, partial)
    console = Console()
    for table in evaluation_tables(dossier.result, console.width):
        console.print(table)
    console.print(f"[dim]{dossier.folder}[/]", highlight=False, soft_wrap=True)
    loggers.record_evaluation(dossier.run.cfg, dossier.run.folder, dossier.run.name, dossier.result, dossier.folder)


def compare(results: Sequence[Mapping[str, Any]]) -> None:
    """Put the evaluations of several runs side by side, those of other data or binarisations apart."""
    folder = Path(HydraConfig.get().sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", plain(list(results)))
    console = Console()
    for table in comparison_tables(results):
        console.print(table)
    groups = list(comparable(results).values())
    for i, group in enumerate(groups, 1):
        several = len(groups) > 1
        figure = comparison_figure(group, f": {group[0]['data']}, {group[0]['binarisation']}" if several else "")
        if figure is not None:
            figures.save(figure, folder / (f"gaps_{i}.png" if several else "gaps.png"))
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)


def _write(dossier: Dossier, folder: Path) -> None:
    for name, figure in depicted(dossier.result, dossier.answers, dossier.data, dossier.cfg.split):
        figures.save(figure, folder / "figures" / f"{name}.png")
    for split, answer in dossier.answers.items():
        name = "data.csv" if split == dossier.cfg.split else f"data_{split}.csv"
        write_table(folder / name, columns(answer, dossier.parts.get(split)))
    OmegaConf.save(dossier.cfg, folder / "config.yaml")
    write_json(folder / "result.json", plain(dossier.result))
