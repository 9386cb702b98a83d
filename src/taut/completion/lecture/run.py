"""The lecture on missing pixels, run as an experiment: ``python complete.py experiment=lecture``."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from omegaconf import DictConfig
from rich.console import Console, RenderableType
from rich.text import Text
from torch import Tensor

from taut.completion.lecture.lecture import Lecture, Method, lecture
from taut.config.run_folder import write_result
from taut.data.digits import Digits
from taut.errors import UserError
from taut.files import atomic_folder
from taut.functional.statistics import standard_error
from taut.report import figures
from taut.report.figures.bound import k_axis
from taut.report.figures.style import BLUE, GREEN, HALO, HOLE, INK, ORANGE, bare, canvas, precise, styled
from taut.report.numbers import number
from taut.report.tables.evaluation import signed
from taut.report.tables.table import NARROW, new_table

READ = ("experiment", "lecture", "seed", "threads", "hydra")
"""Keys of the command that mean something here, where model and data are the lecture's own."""
COLOURS = {"uniform": ORANGE, "learned q": BLUE, "posterior": GREEN}


def give(cfg: DictConfig) -> dict[str, Any]:
    """Run the lecture, print its table, write its picture and numbers; return the numbers.

    Raises:
        UserError: If a key is typed that means nothing here, or more pixels are to be hidden than completions can be
            summed for.
    """
    _refuse_unread(HydraConfig.get().overrides.task)
    started = time.perf_counter()
    console = Console()
    data = Digits(batch_size=None, binarisation="threshold")
    train, test = (data.rows_of(split)[:][:, 0] for split in ("train", "test"))
    if cfg.lecture.images > len(test):
        raise UserError(
            f"lecture.images must be 1 to {len(test)}, the number of test images, got {cfg.lecture.images}."
        )
    console.print("[dim]fitting a mixture of Bernoullis and q, summing every completion, drawing K of them[/]")
    settings = {name: cfg.lecture[name] for name in ("components", "pixels", "repetitions")}
    outcome = lecture(train, test[: cfg.lecture.images], k=cfg.lecture.k, seed=cfg.seed, **settings)
    result = described(outcome) | {"seed": cfg.seed, "seconds": time.perf_counter() - started}
    folder = Path(HydraConfig.get().runtime.output_dir)
    with atomic_folder(folder) as partial:
        write_result(partial, result)
        _draw(outcome, partial / "lecture.png")
    for table in lecture_tables(result):
        console.print(table)
    console.print(f"[dim]{folder / 'lecture.png'}[/]", highlight=False, soft_wrap=True)
    return result


def _refuse_unread(words: Sequence[str]) -> None:
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] not in READ:
            raise UserError(
                f"experiment=lecture trains a model of its own on digits and has no {key}; leave it out, or set "
                "lecture.images, lecture.pixels, lecture.k, lecture.components, lecture.repetitions or seed."
            )


def described(outcome: Lecture) -> dict[str, Any]:
    """Every number of the lecture."""
    return {
        "pixels": outcome.pixels,
        "cells": outcome.seen.numel(),
        "n": len(outcome.exact),
        "k": outcome.sizes[-1],
        "sizes": outcome.sizes,
        "exact": outcome.exact.mean().item(),
        "summed": outcome.summed.mean().item(),
        "difference": (outcome.exact - outcome.summed).abs().max().item(),
        "methods": {name: _numbers(method, outcome) for name, method in outcome.methods.items()},
    }


def _numbers(method: Method, outcome: Lecture) -> dict[str, Any]:
    values = method.error + outcome.exact
    return {
        "gap": method.gap.mean().item(),
        "first": _over_repetitions(values[0]),
        "last": _over_repetitions(values[-1]),
        "ratio": _over_repetitions(method.error[-1].exp()),
        "ess": method.ess.mean().item(),
        "curve": [_over_repetitions(error) for error in method.error],
    }


def _over_repetitions(values: Tensor) -> dict[str, float]:
    """Mean over images and repetitions; the standard error is that of the repetitions."""
    each = values.mean(1)
    return {"value": each.mean().item(), "standard_error": standard_error(each).item()}


def _draw(outcome: Lecture, path: Path) -> None:
    every = {name: method.error.flatten(1) for name, method in outcome.methods.items()}
    levels = torch.tensor([0.05, 0.95], dtype=torch.float64)
    bands = {name: error.quantile(levels, 1).numpy() for name, error in every.items()}
    methods = {
        name: {
            "mean": every[name].mean(1).numpy(),
            "low": bands[name][0],
            "high": bands[name][1],
            "gap": method.gap.mean().item(),
            "shown": method.shown.numpy(),
        }
        for name, method in outcome.methods.items()
    }
    title = f"p(x_obs) as a sum over {2**outcome.pixels:,} completions, and from K of them"
    image = outcome.image.numpy()
    figures.save(lecture_figure(outcome.sizes, methods, image=image, seen=outcome.seen.numpy(), title=title), path)


MEANINGS = {
    "uniform": "every way to fill the pixels is equally likely",
    "learned q": "a network looks at the other pixels",
    "posterior": "the model's own: every weight is p(x_obs)",
}


def lecture_tables(result: Mapping[str, Any]) -> list[RenderableType]:
    """Tables of the estimates by each way to choose completions, and of their distance below the truth."""
    count, n, k = f"{2 ** result['pixels']:,}", result["n"], f"{result['k']:,}"
    heading = Text(f"{result['pixels']} of {result['cells']} pixels hidden in {n} images: {count} completions each")
    heading.stylize("bold")
    table = new_table("K completions drawn from ... (nats per image, ± s.e. over repetitions)", padding=NARROW)
    table.add_column("", no_wrap=True)
    table.add_column("gap = KL", justify="right")
    table.add_column("L_1", justify="right", no_wrap=True)
    table.add_column(f"L_{k}", justify="right", no_wrap=True)
    table.add_column("p̂ / p", justify="right", no_wrap=True)
    table.add_column("ESS / K", justify="right")
    for name, row in result["methods"].items():
        ends = [signed(row[end]) for end in ("first", "last")]
        table.add_row(name, number(row["gap"]), *ends, signed(row["ratio"]), f"{row['ess']:.1%}")
    exact = Text(
        f"log p(x_obs) = {number(result['summed'])}, the sum over all completions; closed form "
        f"{number(result['exact'])}, largest difference {result['difference']:.1e}\n"
    )
    notes = "\n".join(f"{name}: {MEANINGS[name]}" for name in result["methods"])
    return [heading, exact, table, Text(f"{notes}\nL_K is the mean log-estimate: below log p(x_obs) by Jensen", "dim")]


@styled
def lecture_figure(
    sizes: Sequence[int],
    methods: Mapping[str, Mapping[str, Any]],
    *,
    image: np.ndarray,
    seen: np.ndarray,
    title: str,
) -> Figure:
    """The image, completions of it by every method, and beside them the method's log-estimate against K.

    Each method has a panel of its own, on the same axes: bands of several in one would hide each other.

    Args:
        sizes: The numbers of completions K.
        methods: By name: ``mean``, ``low`` and ``high`` of the log-estimate minus log p(x_obs) at every K, ``gap``
            (exact KL, nats), ``shown`` (completions ``[s, h, w]``).
        image: The image, ``[h, w]``.
        seen: The mask, true where observed, ``[h, w]``.
        title: Written above.
    """
    figure = canvas(11.2, 0.8 + 1.3 * len(methods))
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    given, completed, estimates = figure.subfigures(1, 3, width_ratios=[0.42, 1.1, 1.0], wspace=0.02)  # type: ignore[misc]
    _given(given, image, seen)
    _completions(completed, seen, {name: method["shown"] for name, method in methods.items()})
    _estimates(estimates, np.asarray(sizes), methods)
    return figure


def _given(figure: SubFigure, image: np.ndarray, seen: np.ndarray) -> None:
    observed, truth = figure.subplots(2, 1)
    _image(observed, image, seen, marks=True)
    _image(truth, image, seen)
    observed.set_title("observed", fontsize=10, pad=4, fontweight="normal", loc="center")
    truth.set_title("truth", fontsize=10, pad=4, fontweight="normal", loc="center")


def _completions(figure: SubFigure, seen: np.ndarray, shown: Mapping[str, np.ndarray]) -> None:
    grid = figure.subplots(len(shown), max(len(images) for images in shown.values()), squeeze=False)
    for line, (name, images) in zip(grid, shown.items(), strict=True):
        for axes, completed in zip(line, images, strict=True):
            _image(axes, completed, seen)
        line[0].set_ylabel(name, color=COLOURS.get(name, INK), fontweight="bold", labelpad=6)


def _image(axes: Axes, image: np.ndarray, seen: np.ndarray, *, marks: bool = False) -> None:
    rgb = np.repeat(image[..., None], 3, 2)
    if marks:
        rgb = np.where(seen[..., None], rgb, to_rgb(HOLE))
        for row, column in np.argwhere(~seen):
            axes.text(column, row, "?", ha="center", va="center", fontsize=6.5, color=INK)
    # nearest, because matplotlib may smooth pixels by default
    axes.imshow(rgb, vmin=0, vmax=1, interpolation="nearest")
    rows, columns = np.flatnonzero((~seen).any(1)), np.flatnonzero((~seen).any(0))
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    axes.add_patch(Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=ORANGE, linewidth=1.2))
    bare(axes)


def _estimates(figure: SubFigure, sizes: np.ndarray, methods: Mapping[str, Mapping[str, Any]]) -> None:
    panels = figure.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, method) in zip(panels, methods.items(), strict=True):
        colour = COLOURS.get(name, INK)
        axes.axhline(0, color=INK, linewidth=1.2)
        axes.fill_between(sizes, method["low"], method["high"], color=colour, alpha=0.18, linewidth=0)
        axes.plot(sizes, method["mean"], color=colour, marker="o", markersize=4)
        axes.annotate(
            f"gap at K = 1: {precise(method['gap'])} nats",
            (0.98, 0.06),
            xycoords="axes fraction",
            ha="right",
            color=colour,
            path_effects=HALO,
        )
        k_axis(axes, sizes, most=8)
        axes.label_outer()
    low = min(float(np.min(method["mean"])) for method in methods.values())
    panels[0].set_ylim(1.35 * low, max(1.0, -0.15 * low))
    panels[0].set_title("0 is log p(x_obs), all completions summed", fontsize=10, fontweight="normal")
    panels[-1].set_xlabel("completions K (band: 90% of the estimates)")
    figure.supylabel("log-estimate minus log p(x_obs), nats", fontsize=10)
