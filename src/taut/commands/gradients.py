"""``taut gradients run=<run folder>``: how far the gradient of a step stands out of its noise, against K.

Of q (the encoder) and of the model (prior and decoder), for several objectives on the same batch of a trained run
(Rainforth et al., 2018): under the IWAE bound q's gradient drowns as K grows while the model's stands out more.
"""

import sys
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from taut.config import pieces
from taut.config.instantiate import instance
from taut.config.overrides import told_as_run
from taut.config.plain_yaml import read_config
from taut.config.program import conf, ended
from taut.config.run_folder import FIGURES, sole_writer_of, versions, write_result
from taut.config.synonyms import meant
from taut.errors import UserError, nearest
from taut.files import atomic_folder
from taut.functional.signal_to_noise import GROUPS, SignalToNoise, slope
from taut.objective.base import Objective
from taut.report import figures
from taut.report.tables.table import new_table
from taut.runtime.progress import Stages
from taut.training.build import set_up_torch
from taut.training.gradients import PARTS, signal_to_noise
from taut.training.stored_run import Run

HELP = """\
Measure how far the gradient of a training step stands out of its noise, for the encoder and for the model, against K.

  taut gradients run=outputs/runs/<run>

  k=[1,4,16,64]            importance samples; unasked, those that the objectives take (bits need 2 or more)
  objective=[iwae,dreg]    gradient recipes, by the names of objective= with the settings of their files
  draws=200                gradients that are drawn for each K
  limit=16                 rows of the training split in the batch
  seed=0                   of the noise
  trust=[mylab]            packages whose classes the run may need

Writes <run>/gradients/: result.json and a picture, which report.py puts on its page.
"""
KS = (1, 4, 16, 64)
"""Numbers of samples unless they are told: of these, those that all objectives take."""
DEFAULTS: dict[str, Any] = {"k": None, "objective": None, "draws": 200, "limit": 16, "seed": 0}
OUTPUT = "gradients"
OF_ITS_OWN = ("em", "exact")
"""Objectives without noise."""


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of one command: 0, or 2 for a mistake in it."""
    asked = sys.argv[1:] if words is None else words
    if not asked or "--help" in asked or "-h" in asked:
        return ended(lambda: print(HELP, end=""))
    return ended(lambda: _measure(**_asked(asked)))


def _asked(words: Sequence[str]) -> dict[str, Any]:
    """The settings that the words give.

    Raises:
        UserError: For a word that is none, or a value that cannot be.
    """
    words, _ = pieces.taken(words)
    given = dict(DEFAULTS)
    for word in words:
        name, _, value = word.partition("=")
        if told := told_as_run(word):
            raise UserError(f"{word} is not of the form key=value{told}.")
        if name != "run" and name not in DEFAULTS:
            raise UserError(f"There is no key {name} of taut gradients; {nearest(name, ['run', *DEFAULTS])}")
        if not value:
            raise UserError(f"{name} needs a value: {name}=<value>.")
        parts = [part.strip() for part in value.strip("[]").split(",")]
        if name == "run":
            given[name] = Path(value).expanduser()
        elif name == "objective":
            given[name] = parts
        elif name == "k":
            given[name] = sorted({_whole(name, part, 1) for part in parts})
        else:
            given[name] = _whole(name, value, {"draws": 2 * GROUPS, "limit": 1, "seed": 0}[name])
    if "run" not in given:
        raise UserError("run= is missing: taut gradients run=<run folder>.")
    return given


def _whole(name: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name} must be an integer >= {least}, got {text!r}.")
    return int(text)


def _measure(run: Path, k: list[int] | None, objective: list[str] | None, draws: int, limit: int, seed: int) -> None:
    opened = Run.open(run)
    set_up_torch(opened.cfg)
    model, data, about = opened.load()
    x = data.rows_of("train")[:limit]
    names = objective or _fitting(model, x)
    recipes = {name: _recipe(name) for name in names}
    k = _checked(list(recipes.values()), model, x[:2], k)
    with sole_writer_of(opened.folder, OUTPUT), Stages().running() as stages:
        ratios = {}
        for name, recipe in recipes.items():
            stage = stages.stage(name, len(x))
            done = iter(range(1, draws * len(k) + 1))
            step = lambda stage=stage, done=done: stage.at(next(done) / (draws * len(k)))  # noqa: E731
            ratios[name] = signal_to_noise(model.joint, model.q, recipe, x, k, draws=draws, seed=seed, progress=step)
        result = {
            "status": "finished",
            "name": opened.name,
            "run": opened.folder.name,
            "k": k,
            "draws": draws,
            "rows": len(x),
            "seed": seed,
            "checkpoint": about,
            "objectives": {name: _plain(k, found) for name, found in ratios.items()},
            "versions": versions(),
        }
        with atomic_folder(opened.folder / OUTPUT) as folder:
            write_result(folder, result)
            figures.save(_figure(k, ratios, opened.name), folder / FIGURES / "signal_to_noise.png")
    console = Console()
    console.print(_table(k, ratios, opened.name, len(x)))
    console.print(f"[dim]{opened.folder / OUTPUT}[/]", highlight=False, soft_wrap=True)


def _fitting(model: Any, x: torch.Tensor) -> list[str]:
    with torch.no_grad():
        independent = model.q.learned and model.q(x[:1]).has_rsample and not model.q.stratified
    return ["iwae", "dreg"] if independent else ["iwae"]


def _checked(recipes: Sequence[Objective], model: Any, x: torch.Tensor, told: list[int] | None) -> list[int]:
    """The numbers of samples that are told, or those of :data:`KS` that every objective takes.

    Raises:
        UserError: If an objective refuses one that is told, or all of the others.
    """
    taken: list[int] = []
    refusal = None
    for k in told or KS:
        try:
            for recipe in recipes:
                recipe.check(model.joint, model.q, k, x)
        except UserError as error:
            if told:
                raise
            refusal = error
        else:
            taken.append(k)
    if not taken and refusal is not None:
        raise refusal
    return taken


def _recipe(name: str) -> Objective:
    """The objective of this name, with the settings of its file.

    Raises:
        UserError: If there is none, or it has no noise.
    """
    known = {path.stem: path for path in sorted((conf() / "objective").glob("*.yaml")) if path.stem not in OF_ITS_OWN}
    if name not in known:
        raise UserError(
            f"objective={name} is no objective with noise in its gradient; {meant('objective', name, known)}"
        )
    return instance(read_config(known[name]), Objective)


def _plain(ks: Sequence[int], ratios: Mapping[str, Sequence[SignalToNoise]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part, values in ratios.items():
        fitted = slope(ks, values)
        found[part] = {
            "snr": [value.value for value in values],
            "error": [None if isnan(value.error) else value.error for value in values],
            "signal": [value.signal for value in values],
            "noise": [value.noise for value in values],
            "slope": None if fitted is None else {"value": fitted[0], "standard_error": fitted[1]},
        }
    return found


def _figure(ks: Sequence[int], ratios: Mapping[str, Mapping[str, Sequence[SignalToNoise]]], name: str) -> Any:
    curves = {
        part: {
            objective: ([v.value if v.told else nan for v in found[part]], [v.error for v in found[part]])
            for objective, found in ratios.items()
            if part in found
        }
        for part in PARTS
    }
    curves = {part: found for part, found in curves.items() if found}
    return figures.signal_to_noise(ks, curves, title=f"Signal to noise of gradients: {name}")


def _table(
    ks: Sequence[int], ratios: Mapping[str, Mapping[str, Sequence[SignalToNoise]]], name: str, rows: int
) -> Table:
    table = new_table(f"{name}: gradients of {rows} rows")
    for column in ("objective", "of"):
        table.add_column(column)
    for column in ("K", "signal", "noise", "signal to noise", "s.e.", "slope"):
        table.add_column(column, justify="right")
    for objective, found in ratios.items():
        for part, values in found.items():
            fitted = slope(ks, values)
            for row, (k, ratio) in enumerate(zip(ks, values, strict=True)):
                first = (objective, part) if row == 0 else ("", "")
                seen = (f"{ratio.value:.3g}", f"{ratio.error:.2g}") if ratio.told else ("none seen", "")
                last = f"{fitted[0]:+.2f} +- {fitted[1]:.2f}" if row == 0 and fitted is not None else ""
                table.add_row(*first, str(k), f"{ratio.signal:.3g}", f"{ratio.noise:.3g}", *seen, last)
    return table
