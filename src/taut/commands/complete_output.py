"""Output of a completion: pictures, arrays, a table of every datum, and the user's table with its cells filled."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.text import Text
from torch import Tensor

from taut.commands.base import Output
from taut.commands.complete_input import CompleteInput
from taut.completion import Completions
from taut.config.run_folder import FIGURES
from taut.data.base import Data
from taut.data.table import ARROW
from taut.evidence.loop import EvalResult
from taut.evidence.summary import columns
from taut.files import write_atomically, write_table
from taut.model.likelihood.base import Likelihood
from taut.model.likelihood.categorical import Categorical
from taut.report import figures
from taut.report.read.scores import MASSES
from taut.report.tables.completion import completion_tables
from taut.training import loggers

SHOWN = 10
"""Images of the picture."""


def output_name(mask: str, given: CompleteInput) -> str:
    """The name of the folder: one for each mask, split and table."""
    words = [mask.replace(" ", "_")]
    if given.table is not None:
        words.append(given.table.path.stem)
    elif given.split != "test":
        words.append(given.split)
    return "_".join(["completion", *words])


@dataclass(frozen=True)
class CompleteOutput(Output):
    """The output of one completion.

    Args:
        cfg: The config of the command.
        run: The run that completed the data.
        result: What goes into ``result.json``.
        input: The data with missing cells.
        completions: The data with all cells.
        observed: The scores of the observed cells of each datum.
        data: The data of the run.
        likelihood: That of the run's model.
    """

    input: CompleteInput
    completions: Completions
    observed: EvalResult
    data: Data
    likelihood: Likelihood

    @property
    def folder(self) -> Path:
        return self.run.folder / output_name(self.result["mask"], self.input)

    def write_details(self, folder: Path) -> None:
        for name, figure in _pictures(self):
            figures.save(figure, folder / FIGURES / f"{name}.png")
        filled = self.completions
        mean, most_probable, draws = (fill.numpy() for fill in (filled.mean, filled.most_probable, filled.draws))
        x = self.input.x.numpy()
        np.savez_compressed(folder / "completions.npz", mean=mean, most_probable=most_probable, draws=draws, x=x)
        ess = {"ess": filled.ess} if not filled.ess.isnan().all() else {}
        hidden = self.input.x.isnan().flatten(1).sum(1).double()
        write_table(folder / "data.csv", {"hidden": hidden, **ess, **columns(self.observed, None)})

    def export(self) -> Sequence[Path]:
        if not self.cfg.out:
            return ()
        out = Path(self.cfg.out).expanduser()
        write_filled(self, out)
        return (out,)

    def tables(self, width: int) -> Sequence[RenderableType]:
        return [*completion_tables(self.result), *map(Text, _said_of_names(self))]

    def record(self) -> None:
        loggers.record_completion(self.run.cfg, self.run.folder, self.run.name, self.result, self.folder)


def _pictures(output: CompleteOutput) -> Iterator[tuple[str, Figure]]:
    x, filled = output.input.x, output.completions
    title = f"{output.result['name']}, mask {output.result['mask'].replace('_', ' ')}"
    if x.dim() == 4 and x.shape[1] in (1, 3):
        some = slice(SHOWN)
        rows = {f"draw {i + 1}": draw[some] for i, draw in enumerate(filled.draws[:4])}
        rows |= {"most probable": filled.most_probable[some], "mean": filled.mean[some]}
        truth = output.input.truth[some]
        known = {} if torch.equal(truth.isnan(), x[some].isnan()) else {"truth": truth}
        rows = {"observed": x[some], **rows, **known}
        yield "completions", figures.completions({name: row.numpy() for name, row in rows.items()}, title=title)
    elif x.dim() == 2:
        names = output.data.columns or tuple(f"column {i + 1}" for i in range(x.shape[1]))
        yield "completions", figures.completed_columns(x.numpy(), filled.draws.numpy(), names, title=title)


def write_filled(output: CompleteOutput, out: Path) -> None:
    """Write the user's table, or the rows of the run, with every missing cell filled.

    Cells that were observed are those of the file, letter by letter from a text file to a CSV file. ``fill=draws``
    stacks the draws, numbered in a first column: multiple imputation (Rubin, 1987), of the cells alone, since the
    parameters stay at their estimate.
    """
    filled, fill = output.completions, output.cfg.fill
    fills = filled.draws if fill == "draws" else getattr(filled, fill).unsqueeze(0)
    if fill == "mean" and (names := _columns_of_names(output.likelihood)):
        fills = fills.clone()
        fills[..., names] = filled.most_probable[:, names]
    kind = out.suffix.lower()
    if kind == ".npy":
        # np.save would append .npy to a name such as out.NPY, and could leave half a file
        array = io.BytesIO()
        np.save(array, _in_place(fills if fill == "draws" else fills[0], output.input))
        write_atomically(out, array.getvalue())
    elif kind in ARROW:
        write_atomically(out, _arrow(fills, output, kind))
    else:
        write_atomically(out, _csv(fills.flatten(2), output))


NAMES = ("bernoulli", "categorical")
"""Families whose values are names, or yes and no: a mean of them is none of them."""


def _columns_of_names(likelihood: Likelihood) -> list[int]:
    if likelihood.families is not None:
        return [i for i, family in enumerate(likelihood.families.values()) if family.split()[0] in NAMES]
    # of pixels the levels are numbers, and their mean is grey
    of_names = isinstance(likelihood, Categorical) and len(likelihood.x_shape) == 1
    return list(range(likelihood.x_shape[0])) if of_names else []


def _columns_of_whole_numbers(likelihood: Likelihood) -> list[int]:
    if likelihood.families is not None:
        return [i for i, family in enumerate(likelihood.families.values()) if family.split()[0] in MASSES]
    of_whole = likelihood.is_mass and len(likelihood.x_shape) == 1
    return list(range(likelihood.x_shape[0])) if of_whole else []


def _said_of_names(output: CompleteOutput) -> list[str]:
    """A line on the cells that ``fill=mean`` fills otherwise, if there are any."""
    if not output.cfg.out or output.cfg.fill != "mean":
        return []
    order, names = output.input.order, _names(output.input, output.data)
    empty = output.input.x.isnan().flatten(1).any(0).tolist()
    columns = [names[order[i] if order else i] for i in _columns_of_names(output.likelihood) if empty[i]]
    if not columns:
        return []
    said = "filled with the most probable value, since a mean of categories is none"
    return [f"{output.cfg.out}: {', '.join(columns)} {said}."]


def _in_place(fills: Tensor, given: CompleteInput) -> np.ndarray:
    """The user's own array, in its order and precision, with the fills where a cell is missing."""
    if given.table is None:
        return fills.numpy()
    own, fill = given.table.read()[: len(given.x)], fills.double().numpy()
    hidden = given.x.isnan().numpy()
    if own.ndim == 2:
        # the inverse of the permutation: from the columns of the model to those of the table
        order = np.argsort(given.order)
        fill, hidden = fill[..., order], hidden[:, order]
    return np.where(hidden, fill, own)


def _arrow(fills: Tensor, output: CompleteOutput, kind: str) -> bytes:
    """A Parquet or Feather file of the numbers."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    values = _in_place(fills, output.input)
    rows = values.reshape(-1, values[0, 0].size)
    columns = dict(zip(_names(output.input, output.data), rows.T, strict=True))
    if output.cfg.fill == "draws":
        columns = {"draw": np.repeat(np.arange(1, len(values) + 1), values.shape[1]), **columns}
    table, content = pa.table(columns), io.BytesIO()
    if kind == ".parquet":
        parquet.write_table(table, content)
    else:
        feather.write_feather(table, content)
    return content.getvalue()


def _names(given: CompleteInput, data: Data) -> tuple[str, ...]:
    """The names of the columns, in the order of the table."""
    width = given.x.flatten(1).shape[1]
    return (given.table.columns if given.table else data.columns) or tuple(f"x{i + 1}" for i in range(width))


def _csv(fills: Tensor, output: CompleteOutput) -> str:
    given, several = output.input, output.cfg.fill == "draws"
    order = torch.tensor(given.order or range(fills.shape[-1])).argsort()
    counted = set(_columns_of_whole_numbers(output.likelihood))
    whole = [int(column) in counted for column in order]
    names, rows = _cells(given, output.data, whole)
    missing = given.x.flatten(1).isnan()[:, order].tolist()
    # as the other cells of the column are written: some programs write whole numbers as 3.0
    points = [any("." in row[i] for row in rows) for i in range(len(whole))]
    whole = [each and not point for each, point in zip(whole, points, strict=True)]
    text = io.StringIO()
    # csv would end lines with \r\n
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["draw"] if several else []), *names])
    for draw, fill in enumerate(fills[:, :, order].tolist()):
        for cells, values, hidden in zip(rows, fill, missing, strict=True):
            filled = map(_text, values, whole)
            mixed = [value if gone else cell for cell, value, gone in zip(cells, filled, hidden, strict=True)]
            writer.writerow([*([draw + 1] if several else []), *mixed])
    return text.getvalue()


def _text(value: float, whole: bool) -> str:
    """The shortest text that reads back as the same float; without ``.0`` in a column of whole numbers."""
    return str(int(value)) if whole and value.is_integer() else repr(value)


def _cells(given: CompleteInput, data: Data, whole: Sequence[bool]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table as text: the user's own where there is a text file."""
    names, table = _names(given, data), given.table
    cells = table.cells() if table else None
    if cells is None:
        values = table.read()[: len(given.x)].astype(np.float64) if table else given.truth.numpy()
        rows = values.reshape(len(values), -1).tolist()
        return list(names), [[_text(value, each) for value, each in zip(row, whole, strict=True)] for row in rows]
    return list(names), list(islice(cells, len(given.x)))
