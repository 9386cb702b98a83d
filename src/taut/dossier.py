"""What an evaluation leaves behind: a folder, a table in the terminal, an entry in the W&B record."""

import csv
import json
import math
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from taut import figures, loggers
from taut.assessment import columns, plain
from taut.data.base import Data
from taut.depiction import comparison_figure, depicted
from taut.gap import Split
from taut.measure import Answer
from taut.report.compare import comparison_tables
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
    _tidy(dossier.folder)
    partial = dossier.folder.with_name(f".{dossier.folder.name}.{os.getpid()}.part")
    try:
        _write(dossier, partial)
        _replace(dossier.folder, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    console = Console()
    for table in evaluation_tables(dossier.result, console.width):
        console.print(table)
    console.print(f"[dim]{dossier.folder}[/]", highlight=False, soft_wrap=True)
    loggers.record_evaluation(dossier.run.cfg, dossier.run.folder, dossier.run.name, dossier.result, dossier.folder)


def compare(results: Sequence[Mapping[str, Any]]) -> None:
    """Put the evaluations of several runs side by side, those of other data or binarisations apart."""
    folder = Path(HydraConfig.get().sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(plain(list(results)), indent=2) + "\n", encoding="utf-8")
    console = Console()
    for table in comparison_tables(results):
        console.print(table)
    figure = comparison_figure(results)
    if figure is not None:
        figures.save(figure, folder / "gaps.png")
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)


def _write(dossier: Dossier, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, figure in depicted(dossier.result, dossier.answers, dossier.data, dossier.cfg.split):
        figures.save(figure, folder / "figures" / f"{name}.png")
    for split, answer in dossier.answers.items():
        name = "data.csv" if split == dossier.cfg.split else f"data_{split}.csv"
        _write_table(folder / name, columns(answer, dossier.parts.get(split)))
    OmegaConf.save(dossier.cfg, folder / "config.yaml")
    text = json.dumps(plain(dossier.result), indent=2, allow_nan=False)
    (folder / "result.json").write_text(text + "\n", encoding="utf-8")


def _write_table(path: Path, table: Mapping[str, Tensor]) -> None:
    """One row per datum; an empty cell where there is no number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *table])
        for row, values in enumerate(zip(*(column.tolist() for column in table.values()), strict=True)):
            writer.writerow([row, *("" if math.isnan(value) else repr(value) for value in values)])


def _replace(folder: Path, partial: Path) -> None:
    """Put the new folder where the old one was, which is gone only afterwards."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Sweep away what killed evaluations left, and put back the folder that one of them was about to replace."""
    for left in folder.parent.glob(f".{folder.name}.*.*"):
        process = left.suffixes[-2].removeprefix(".")
        if left.suffix not in (".part", ".old") or not process.isdigit() or _alive(int(process)):
            continue
        if left.suffix == ".old" and not folder.exists():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
