"""From the numbers of an evaluation to its pictures."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from taut.data.base import Data
from taut.evidence.gap import GapDecomposition, interval
from taut.evidence.loop import BETAS, EvalResult
from taut.evidence.summary import columns, plain
from taut.files import atomic_folder, write_json, write_table
from taut.report import figures
from taut.report.tables.evaluation import comparable, comparison_tables, evaluation_tables
from taut.training import loggers
from taut.training.run import Run

WORST = 8
AT_EQUAL_COST = ("uniform", "naive", "importance")


def evaluation_figures(
    result: Mapping[str, Any], answers: Mapping[str, EvalResult], data: Data, split: str
) -> Iterator[tuple[str, Figure]]:
    """Name and figure of every picture that the evaluation can make; none of what is void."""
    if answers[split].void:
        return
    title = f"{result['name']}, {split}"
    curves = result["curve"]
    if "importance" in curves:
        yield "bracket", _bracket(result, title)
    yield "thermodynamic", _thermodynamic(result, answers[split], title)
    yield "gaps", _histogram(answers[split], data, split, title)
    if len([name for name in AT_EQUAL_COST if name in curves]) > 1:
        yield "equal_cost", _equal_cost(result, title)
    if result["apart"]:
        rows = [_bar(name, one) for name, one in result["apart"].items()]
        yield "gap_apart", figures.stacked_gaps(rows, title=result["name"])


def comparison_figure(results: Sequence[Mapping[str, Any]], where: str = "") -> Figure | None:
    """The gap of every run in its two parts, if it was taken apart; ``where`` tells several such pictures apart."""
    named = Counter(one["name"] for one in results)
    rows = []
    for one in results:
        name = one["name"] if named[one["name"]] == 1 else f"{one['name']} ({one['run']})"
        rows += [_bar(f"{name}, {split}", part) for split, part in one["apart"].items()]
    return figures.stacked_gaps(rows, title=f"The gap taken apart{where}") if rows else None


def _bracket(result: Mapping[str, Any], title: str) -> Figure:
    curve = result["curve"]["importance"]
    levels = [
        {"label": name, "value": one["value"], "kind": one["kind"]}
        for name, one in result["evidence"].items()
        if name not in ("elbo", "importance")
    ]
    elbo = result["evidence"]["elbo"]["value"]
    ks, values = (np.asarray(curve[name]) for name in ("k", "value"))
    error = result["evidence"]["importance"]["standard_error"]
    return figures.bracket(ks, values, elbo=elbo, error=error, levels=levels, title=title)


def _thermodynamic(result: Mapping[str, Any], answer: EvalResult, title: str) -> Figure:
    gap, curve = result["gap"], answer.thermodynamic
    best = result["evidence"][gap["lower"]]
    return figures.thermodynamic(
        np.asarray(BETAS),
        curve.mean(1).numpy(),
        elbo=result["evidence"]["elbo"]["value"],
        log_px=best["value"],
        log_px_kind=best["kind"],
        trusted=not result["evidence"].get("importance", {"doubts": ["unknown"]})["doubts"],
        title=title,
    )


def _histogram(answer: EvalResult, data: Data, split: str, title: str) -> Figure:
    found = interval(answer.trusted_elbo, answer.trusted)
    worst = found.low.argsort(descending=True)[:WORST]
    images = data.rows_of(split)[worst].double().numpy()
    is_image = images.ndim == 4 and images.shape[1] in (1, 3)
    return figures.gap_histogram(
        found.low.numpy(),
        None if found.high is None else found.high.numpy(),
        exact=found.exact,
        images=images.mean(1) if is_image else None,
        image_rows=worst.tolist(),
        title=title,
    )


def _equal_cost(result: Mapping[str, Any], title: str) -> Figure:
    curves = {name: result["curve"][name] for name in AT_EQUAL_COST if name in result["curve"]}
    sizes = sorted(set.intersection(*(set(curve["k"]) for curve in curves.values())))
    shown = {
        name: {
            "mean": np.asarray(curve["value"])[[curve["k"].index(k) for k in sizes]],
            "error": np.asarray(curve["standard_error"])[[curve["k"].index(k) for k in sizes]],
            "kind": result["evidence"][name]["kind"],
        }
        for name, curve in curves.items()
    }
    return figures.equal_cost(np.asarray(sizes), shown, exact=_exact(result), title=title)


def _exact(result: Mapping[str, Any]) -> float | None:
    return next((one["value"] for one in result["evidence"].values() if one["kind"] == "exact"), None)


def _bar(label: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """The lower end of the approximation gap; the middle of both where noise makes them cross, as in the table."""
    low, high = part["approximation"]["low"], part["approximation"]["high"]
    between = [low["value"], low["value"] if high is None else high["value"]]
    crossed = not part["exact"] and between[1] < between[0]
    return {
        "label": label,
        "approximation": sum(between) / 2 if crossed else low["value"],
        "amortisation": part["amortisation"]["value"],
        "approximation_error": low["standard_error"],
        "amortisation_error": part["amortisation"]["standard_error"],
        "sign": "" if part["exact"] else "≈" if crossed else "≥",
    }


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
    answers: dict[str, EvalResult]
    parts: dict[str, GapDecomposition]
    data: Data

    @property
    def folder(self) -> Path:
        """Where it goes."""
        return self.run.folder / self.cfg.out


def publish(dossier: Dossier) -> None:
    """Write the folder, whole or not at all, print the table, and tell W&B."""
    dossier.result["versions"] = {name: version(name) for name in VERSIONED} | {"python": platform.python_version()}
    with atomic_folder(dossier.folder) as partial:
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
    for name, figure in evaluation_figures(dossier.result, dossier.answers, dossier.data, dossier.cfg.split):
        figures.save(figure, folder / "figures" / f"{name}.png")
    for split, answer in dossier.answers.items():
        name = "data.csv" if split == dossier.cfg.split else f"data_{split}.csv"
        write_table(folder / name, columns(answer, dossier.parts.get(split)))
    OmegaConf.save(dossier.cfg, folder / "config.yaml")
    write_json(folder / "result.json", plain(dossier.result))
