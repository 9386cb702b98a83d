"""What a completion leaves behind: a folder, a table in the terminal, a filled table, an entry in the W&B record."""

import csv
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from taut.commands.complete_input import Incomplete
from taut.commands.evaluate_output import VERSIONED
from taut.completion import Completions
from taut.data.base import Data
from taut.data.readers.csv_file import read_rows
from taut.evidence.loop import EvalResult
from taut.evidence.summary import columns, plain
from taut.files import atomic_folder, write_json, write_table
from taut.report import figures
from taut.report.tables.completion import completion_tables
from taut.training import loggers
from taut.training.run import Run

SHOWN = 10
"""Images of the picture."""


@dataclass(frozen=True)
class Completed:
    """One completion.

    Args:
        cfg: What was asked.
        run: The run it was asked of.
        result: The numbers and words.
        holes: The data.
        completions: What was found.
        answer: What was measured of the observed cells of each datum.
        data: The data of the run.
    """

    cfg: DictConfig
    run: Run
    result: dict[str, Any]
    holes: Incomplete
    completions: Completions
    answer: EvalResult
    data: Data

    @property
    def folder(self) -> Path:
        """Where it goes: one folder for each mask, split and table."""
        words = [self.result["mask"].replace(" ", "_")]
        if self.holes.table is not None:
            words.append(self.holes.table.path.stem)
        elif self.result["split"] != "test":
            words.append(self.result["split"])
        return self.run.folder / "_".join(["completion", *words])


def publish(completed: Completed, out: Path | None) -> None:
    """Write the folder and the filled table, each whole or not at all, print the tables, and tell W&B."""
    result = completed.result
    result["versions"] = {name: version(name) for name in VERSIONED} | {"python": platform.python_version()}
    with atomic_folder(completed.folder) as partial:
        _write(completed, partial)
    if out is not None:
        write_filled(completed, out)
    console = Console()
    for table in completion_tables(result):
        console.print(table)
    for path in (completed.folder, out):
        if path is not None:
            console.print(f"[dim]{path}[/]", highlight=False, soft_wrap=True)
    loggers.record_completion(completed.run.cfg, completed.run.folder, result["name"], result, completed.folder)


def _write(completed: Completed, folder: Path) -> None:
    for name, figure in _pictures(completed):
        figures.save(figure, folder / "figures" / f"{name}.png")
    found, holes = completed.completions, completed.holes
    mean, most_probable, draws, x = (one.numpy() for one in (found.mean, found.most_probable, found.draws, holes.x))
    np.savez_compressed(folder / "completions.npz", mean=mean, most_probable=most_probable, draws=draws, x=x)
    ess = {"ess": found.ess} if not found.ess.isnan().all() else {}
    hidden = holes.x.isnan().flatten(1).sum(1).double()
    write_table(folder / "data.csv", {"hidden": hidden, **ess, **columns(completed.answer, None)})
    OmegaConf.save(completed.cfg, folder / "config.yaml")
    write_json(folder / "result.json", plain(completed.result))


def _pictures(completed: Completed) -> Iterator[tuple[str, Figure]]:
    found, holes = completed.completions, completed.holes
    title = f"{completed.result['name']}, mask {completed.result['mask'].replace('_', ' ')}"
    if holes.x.dim() == 4 and holes.x.shape[1] in (1, 3):
        some = slice(SHOWN)
        rows = {f"draw {i + 1}": one[some] for i, one in enumerate(found.draws[:4])}
        rows |= {"most probable": found.most_probable[some], "mean": found.mean[some]}
        truth = holes.truth[some]
        shown = {} if torch.equal(truth.isnan(), holes.x[some].isnan()) else {"truth": truth}
        every = {"observed": holes.x[some], **rows, **shown}
        yield "completions", figures.completions({name: one.numpy() for name, one in every.items()}, title=title)
    elif holes.x.dim() == 2:
        names = completed.data.columns or tuple(f"column {i + 1}" for i in range(holes.x.shape[1]))
        yield "completions", figures.completed_columns(holes.x.numpy(), found.draws.numpy(), names, title=title)


def write_filled(completed: Completed, out: Path) -> None:
    """The user's table, or the rows of the run, with every hole filled.

    Cells that were observed are those of the file, letter by letter for a CSV file. ``fill=draws`` stacks the draws,
    numbered in a first column: multiple imputation (Rubin, 1987), of the cells alone, since the parameters stay at
    their estimate.
    """
    found, holes = completed.completions, completed.holes
    fills = found.draws if completed.cfg.fill == "draws" else getattr(found, completed.cfg.fill).unsqueeze(0)
    partial = out.with_name(f".{out.name}.part")
    try:
        if out.suffix.lower() == ".npy":
            with partial.open("wb") as file:
                np.save(file, _in_place(fills if completed.cfg.fill == "draws" else fills[0], holes))
        else:
            _write_csv(partial, fills.flatten(2), holes, completed)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _in_place(fills: Tensor, holes: Incomplete) -> np.ndarray:
    """The fills in the holes of the user's own array, in its order; what it held is as it was."""
    if holes.table is None:
        return fills.numpy()
    own, fill = holes.table.read()[: len(holes.x)], fills.double().numpy()
    hidden = holes.x.isnan().numpy()
    if own.ndim == 2:
        order = np.argsort(holes.order)
        fill, hidden = fill[..., order], hidden[:, order]
    return np.where(hidden, fill, own)


def _write_csv(path: Path, fills: Tensor, holes: Incomplete, completed: Completed) -> None:
    names, rows = _cells(holes, completed.data)
    order = torch.tensor(holes.order or range(fills.shape[-1])).argsort()
    missing = holes.x.flatten(1).isnan()[:, order].tolist()
    many = completed.cfg.fill == "draws"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(["draw"] if many else []), *names])
        for draw, fill in enumerate(fills[:, :, order].tolist()):
            for cells, values, gone in zip(rows, fill, missing, strict=True):
                mixed = [repr(v) if hole else cell for cell, v, hole in zip(cells, values, gone, strict=True)]
                writer.writerow([*([draw + 1] if many else []), *mixed])


def _cells(holes: Incomplete, data: Data) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table as text: the user's own where there is a CSV file."""
    table, width = holes.table, holes.x.flatten(1).shape[1]
    names = (table.columns if table else data.columns) or tuple(f"x{i + 1}" for i in range(width))
    if table is None or table.path.suffix.lower() != ".csv":
        return list(names), [[repr(value) for value in row] for row in holes.truth.flatten(1).tolist()]
    rows = [cells for _, cells in read_rows(table.path)]
    if table.columns is None:
        return list(names), rows[: len(holes.x)]
    header = [cell.strip() for cell in rows[0]]
    chosen = [header.index(name) for name in table.columns]
    return list(names), [[cells[i] for i in chosen] for cells in rows[1 : len(holes.x) + 1]]
