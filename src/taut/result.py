"""What a finished run says of itself: ``result.json`` and the table in the terminal."""

import json
import platform
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from taut import loggers
from taut.data.base import Data
from taut.evidence.diagnostics import Doubt, collapse, doubts
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.score import DETAILS
from taut.functional.bounds import block_sizes
from taut.metrics import Summary
from taut.model.q.base import Amortised
from taut.report.table import test_table
from taut.training.module import LatentVariableModel


def describe(
    cfg: DictConfig,
    trainer: L.Trainer,
    model: LatentVariableModel,
    data: Data,
    best: ModelCheckpoint,
    seconds: dict[str, float],
    parameters: int,
) -> dict[str, Any]:
    """Every score with its error, kind, K, and all that is needed to judge or repeat it."""
    summary = model.summaries["test"]
    kinds = {"elbo": "lower", "bound": "lower", "log_px": model.log_px_kind, "gap": model.log_px_kind}
    used = {"elbo": 1, "bound": model.k, "log_px": model.samples["test"]}
    best_bound = None if best.best_model_score is None else best.best_model_score.item()
    scores: dict[str, dict[str, Any]] = {name: dict(values) for name, values in summary.scores.items()}
    for name, kind in kinds.items():
        scores[name]["kind"] = kind
    for name, k in used.items():
        scores[name]["k"] = None if scores[name]["kind"] == "exact" else k
    scores["ess"]["monte_carlo_error"] = None
    reasons = _doubts(scores, summary, model)
    return {
        "status": "finished",
        "name": loggers.run_name(cfg),
        **loggers.choices(),
        "binarisation": data.binarisation,
        "mask": loggers.mask_word(cfg),
        "cells": "all" if data.mask is None else "observed",
        "k": model.k,
        "k_test": model.samples["test"],
        "seed": cfg.seed,
        "split": "test",
        "n": summary.n,
        "held_out": data.held_out,
        "scores": scores,
        "curve": {
            "k": block_sizes(model.samples["test"]),
            "value": summary.curve,
            "standard_error": summary.curve_errors,
        },
        "validation": {"bound": best_bound},
        "warnings": [*(doubt.sentence for doubt in reasons), *_collapsed(scores, model)],
        "epochs": trainer.current_epoch,
        "parameters": parameters,
        "precision": cfg.trainer.precision,
        "data_digest": data.digest,
        "seconds": seconds,
        "versions": {name: version(name) for name in ("taut", "torch", "lightning", "hydra-core")}
        | {"python": platform.python_version()},
    }


def _collapsed(scores: dict[str, dict[str, Any]], model: LatentVariableModel) -> list[str]:
    """What to say where an encoder has given up; a q without one is as asked for, and one datum tells nothing."""
    if not isinstance(model.q, Amortised) or model.joint.prior.discrete or model.summaries["test"].n == 1:
        return []
    units = prod(model.joint.prior.z_shape)
    sentence = collapse(scores["active_units"]["value"], units, scores["kl"]["value"])
    return [] if sentence is None else [sentence]


def _doubts(scores: dict[str, dict[str, Any]], summary: Summary, model: LatentVariableModel) -> list[Doubt]:
    """Why importance sampling may be far from log p(x), as ``evaluate.py`` says it; k-hat is added to the scores."""
    if summary.details is None:
        return []
    value, variance, *diagnostics = summary.details.cpu().T
    by_name: dict[str, Tensor] = dict(zip(DETAILS[2:], diagnostics, strict=True))
    evidence = LogEvidence("log p(x)", "lower", value, variance, model.samples["test"], diagnostics=by_name)
    known = by_name["khat"][~by_name["khat"].isnan()]
    scores["khat"] = {"value": known.median().item() if len(known) else None, "n": len(known)}
    found = doubts(evidence)
    for name in ("log_px", "gap"):
        scores[name]["doubts"] = [doubt.short for doubt in found]
    return found


def publish(result: dict[str, Any], folder: Path) -> None:
    """Print the table and write ``result.json``, whole or not at all."""
    partial = folder / ".result.json.part"
    partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(folder / "result.json")
    console = Console()
    console.print(test_table(result))
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)
