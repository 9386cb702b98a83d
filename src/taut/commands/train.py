"""Training: fit, test with the best weights, and write what came of it to ``result.json``."""

import time
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from taut.config.instantiate import check_targets_resolved, instantiate
from taut.config.overrides import child_command
from taut.config.run_folder import CHECKPOINTS, RESUMED_CONFIG, versions, write_format, write_result
from taut.data.base import Data
from taut.errors import UserError
from taut.evidence.diagnostics import ReliabilityWarning, collapse, reliability_warnings
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.score import DETAILS
from taut.functional.bounds import block_sizes
from taut.model.q.base import Amortised
from taut.report.tables.training import score_table
from taut.runtime import devices
from taut.runtime.launch import first
from taut.runtime.workers import worker_processes
from taut.training import loggers, strategies
from taut.training.build import (
    build_data,
    build_model,
    refuse_closed_form_in_parallel,
    refuse_small_batches,
    set_up_torch,
)
from taut.training.checkpoint import AtomicCheckpointIO, newest_good
from taut.training.metrics import Summary
from taut.training.module import LatentVariableModel
from taut.training.strategies import whole_weights


def describe(
    cfg: DictConfig,
    trainer: L.Trainer,
    model: LatentVariableModel,
    data: Data,
    best: ModelCheckpoint,
    seconds: dict[str, float],
    parameters: int,
) -> dict[str, Any]:
    """Scores with their errors, kinds and K, and all that is needed to judge or repeat them."""
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
    warnings = _warnings(scores, summary, model)
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
        "warnings": [*(warning.sentence for warning in warnings), *_collapsed(scores, model)],
        "epochs": trainer.current_epoch,
        "parameters": parameters,
        "precision": cfg.trainer.precision,
        "data_digest": data.digest,
        "seconds": seconds,
        "versions": versions(),
    }


def _collapsed(scores: dict[str, dict[str, Any]], model: LatentVariableModel) -> list[str]:
    """A warning where an encoder has collapsed; a q without one is as asked for, and one datum tells nothing."""
    if not isinstance(model.q, Amortised) or model.joint.prior.discrete or model.summaries["test"].n == 1:
        return []
    units = prod(model.joint.prior.z_shape)
    sentence = collapse(scores["active_units"]["value"], units, scores["kl"]["value"])
    return [] if sentence is None else [sentence]


def _warnings(
    scores: dict[str, dict[str, Any]], summary: Summary, model: LatentVariableModel
) -> list[ReliabilityWarning]:
    """Reasons why importance sampling may be far from log p(x), as in an evaluation; k-hat is added to the scores."""
    if summary.details is None:
        return []
    value, variance, *diagnostics = summary.details.cpu().T
    by_name: dict[str, Tensor] = dict(zip(DETAILS[2:], diagnostics, strict=True))
    evidence = LogEvidence("log p(x)", "lower", value, variance, model.samples["test"], diagnostics=by_name)
    known = by_name["khat"][~by_name["khat"].isnan()]
    scores["khat"] = {"value": known.median().item() if len(known) else None, "n": len(known)}
    warnings = reliability_warnings(evidence)
    for name in ("log_px", "gap"):
        scores[name]["doubts"] = [warning.short for warning in warnings]
    return warnings


def publish(result: dict[str, Any], folder: Path) -> None:
    """Write ``result.json`` and print the table."""
    write_result(folder, result)
    console = Console()
    console.print(score_table(result))
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)


LIMITED = 1000
"""Rows on which floors and caps are looked for."""


def train(cfg: DictConfig) -> float:
    """Train what ``cfg`` describes and return its best validation bound, in nats.

    The run folder gets ``metrics.csv``, ``checkpoints/``, ``figures/`` and, last, ``result.json``.

    Raises:
        UserError: If the config cannot be trained.
        LostProcess: If another process of the run failed.
    """
    check_targets_resolved(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    processes = devices.require(cfg.trainer)
    set_up_torch(cfg)
    data = build_data(cfg)
    model = build_model(cfg, data)
    if cfg.resume and first():
        # beside .hydra/config.yaml, which stays what the run was started with
        OmegaConf.save(cfg, folder / RESUMED_CONFIG)
    trainer = _build_trainer(cfg, folder)
    refuse_closed_form_in_parallel(model, trainer)
    refuse_small_batches(data, trainer.world_size)
    parameters = sum(p.numel() for p in model.parameters())
    best = _best(trainer)
    if first():
        write_format(folder)
    checkpoint = newest_good(folder / CHECKPOINTS) if cfg.resume else None
    with loggers.finishing(trainer.loggers), worker_processes(processes, child_command(folder)):
        started = time.perf_counter()
        # weights_only: a checkpoint is a pickle, which could otherwise run code
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        ended = time.perf_counter()
        trainer.test(model, datamodule=data, ckpt_path=best.best_model_path, weights_only=True, verbose=False)
        seconds = {"fit": ended - started, "test": time.perf_counter() - ended}
        result = describe(cfg, trainer, model, data, best, seconds, parameters)
        result["converged"] = model.objective.converged
        with whole_weights(trainer):
            fitted = result["converged"] is not None  # elsewhere no maximum was looked for
            result["criteria"] = model.criteria(data.training_rows().to(model.device)) if fitted else None
            result["limits"] = model.limits(data.rows_of("test")[:LIMITED].to(model.device))
        if trainer.is_global_zero:
            weights = AtomicCheckpointIO().load_checkpoint(best.best_model_path)
            result["checkpoint"] = {"epoch": weights["epoch"], "step": weights["global_step"]}
            publish(result, folder)
            loggers.summarise(trainer.loggers, result)
    return result["validation"]["bound"]


def _build_trainer(cfg: DictConfig, folder: Path) -> L.Trainer:
    trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(folder),
        callbacks=[instantiate(node) for node in cfg.callbacks.values() if node],
        logger=loggers.build(cfg, folder),
        plugins=[AtomicCheckpointIO(), devices.environment()],
        # a run shorter than the interval would never validate, and keep no best weights
        check_val_every_n_epoch=min(cfg.trainer.check_val_every_n_epoch, cfg.trainer.max_epochs),
        **strategies.asked_for(cfg.trainer),
    )
    # Lightning's answer to SIGTERM broadcasts among processes that may be doing something else; callbacks answer it
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def _best(trainer: L.Trainer) -> ModelCheckpoint:
    """The checkpoint callback that keeps the weights of the best validation bound."""
    kept = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor == "val/bound"]
    if not kept:
        raise UserError(
            "No callback keeps the best weights; leave callbacks.best in the config (callbacks=default or none)."
        )
    return kept[0]
