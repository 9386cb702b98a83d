"""Training: fit, test with the best weights, and write what came of it to ``result.json``."""

import time
import warnings
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text
from torch import Tensor

from taut.config import resume
from taut.config.foreign import read_metrics, read_object
from taut.config.instantiate import check_targets_resolved, instance, instantiate
from taut.config.overrides import child_command
from taut.config.run_folder import (
    BEST,
    CHECKPOINTS,
    FIGURES,
    FORMAT_FILE,
    METRICS,
    versions,
    write_format,
    write_result,
)
from taut.data.base import Data
from taut.data.disk_rows import first_rows
from taut.errors import UserError
from taut.evidence.diagnostics import collapse, reliability_warnings, warning_sentences
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.score import DETAILS
from taut.files import from_here
from taut.functional.bits import Bits
from taut.functional.bounds import block_sizes
from taut.model.q.base import Amortised
from taut.report import figures
from taut.report.tables.training import score_table
from taut.runtime import devices
from taut.runtime.launch import first
from taut.runtime.threads import set_by_user
from taut.runtime.workers import worker_processes
from taut.training import coverage, loggers, strategies
from taut.training.build import (
    build_data,
    build_model,
    refuse_closed_form_in_parallel,
    refuse_small_batches,
    set_up_torch,
)
from taut.training.callbacks.history import History
from taut.training.callbacks.pictures import Pictures
from taut.training.callbacks.run_folder import RunFolder, ended_without
from taut.training.callbacks.threads import Threads
from taut.training.checkpoint import AtomicCheckpointIO, newest_good
from taut.training.metrics import Summary, bits_of
from taut.training.module import LatentVariableModel
from taut.training.rate_search import Search, search
from taut.training.restoring import refuse_unfit, start_from, told_what_does_not_fit
from taut.training.strategies import whole_weights


def describe(
    cfg: DictConfig,
    trainer: L.Trainer,
    model: LatentVariableModel,
    data: Data,
    seconds: dict[str, float],
    parameters: int,
) -> dict[str, Any]:
    """Scores with their errors, kinds and K, and all that is needed to judge or repeat them."""
    summary = model.summaries.get("test")
    scores, doubts = ({}, []) if summary is None else _scores(model, summary)
    bits = bits_of(model.joint.likelihood, data)
    if bits and scores:
        scores["bits"] = _in_bits(bits, scores["log_px"], data)
    return {
        "status": "finished",
        "debug": loggers.debugged(),
        "name": loggers.run_name(cfg),
        **loggers.choices(),
        "binarisation": loggers.preparation(cfg),
        "families": model.joint.likelihood.families,
        "measure": "mass" if model.is_mass else "density",
        "mask": loggers.mask_word(cfg),
        "cells": "all" if data.mask is None else model.joint.likelihood.scored_cells,
        "k": model.k,
        "k_test": model.samples["test"],
        "seed": cfg.seed,
        "split": "test",
        "n": 0 if summary is None else summary.n,
        "held_out": data.held_out,
        "scores": scores,
        "curve": {
            "k": [] if summary is None else block_sizes(model.samples["test"]),
            "value": [] if summary is None else summary.curve,
            "standard_error": [] if summary is None else summary.curve_errors,
        },
        "validation": {"bound": _validation_bound(trainer, model)},
        "warnings": [*model.divergence(), *doubts],
        "epochs": trainer.current_epoch,
        "parameters": parameters,
        "precision": cfg.trainer.precision,
        "data_digest": data.digest,
        "seconds": seconds,
        "versions": versions(),
    }


def _in_bits(bits: Bits, log_px: dict[str, Any], data: Data) -> dict[str, Any]:
    """Bits per dimension, from log p(x): of a lower bound, or of dequantised levels, an upper bound."""
    errors = {name: log_px[name] for name in ("standard_error", "monte_carlo_error")}
    return {
        "value": bits.of_nats(log_px["value"]),
        **{name: None if error is None else bits.of_error(error) for name, error in errors.items()},
        "kind": "exact" if log_px["kind"] == "exact" and not data.dequantise else "upper",
        "k": log_px["k"],
        "of": bits.of,
        "doubts": log_px.get("doubts", []),
    }


def _scores(model: LatentVariableModel, summary: Summary) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The scores of a summary with their kinds and K, and sentences on what to doubt in them."""
    kinds = {"elbo": "lower", "bound": model.objective.kind}
    kinds |= {"log_px": model.log_px_kind, "gap": model.log_px_kind}
    used = {"elbo": 1, "bound": model.k, "log_px": model.samples["test"]}
    scores: dict[str, dict[str, Any]] = {name: dict(values) for name, values in summary.scores.items()}
    for name, kind in kinds.items():
        scores[name]["kind"] = kind
    for name, k in used.items():
        scores[name]["k"] = None if scores[name]["kind"] == "exact" else k
    scores["ess"]["monte_carlo_error"] = None
    doubts = _warnings(scores, summary, model)
    return scores, [*doubts, *_collapsed(scores, model)]


def _collapsed(scores: dict[str, dict[str, Any]], model: LatentVariableModel) -> list[str]:
    """A warning where an encoder has collapsed; a q without one is as asked for, and one datum tells nothing."""
    if not isinstance(model.q, Amortised) or model.joint.prior.discrete or model.summaries["test"].n == 1:
        return []
    units = prod(model.joint.prior.z_shape)
    sentence = collapse(scores["active_units"]["value"], units, scores["kl"]["value"])
    return [] if sentence is None else [sentence]


def _warnings(scores: dict[str, dict[str, Any]], summary: Summary, model: LatentVariableModel) -> list[str]:
    """Reasons why importance sampling may be far from log p(x), as in an evaluation; k-hat is added to the scores."""
    if summary.details is None:
        return []
    value, variance, *diagnostics = summary.details.cpu().T
    by_name: dict[str, Tensor] = dict(zip(DETAILS[2:], diagnostics, strict=True))
    evidence = LogEvidence("log p(x)", "lower", value, variance, model.samples["test"], diagnostics=by_name)
    known = by_name["khat"][~by_name["khat"].isnan()]
    scores["khat"] = {"value": known.median().item() if len(known) else None, "n": len(known)}
    short = [doubt.short for doubt in reliability_warnings(evidence)]
    for name in ("log_px", "gap"):
        scores[name]["doubts"] = short
    return warning_sentences([evidence], annealable=not model.joint.prior.discrete)


def publish(result: dict[str, Any], folder: Path) -> None:
    """Write ``result.json`` and print the table."""
    write_result(folder, result)
    console = Console()
    console.print(score_table(result))
    console.print(f"[dim]{folder}[/]", highlight=False, soft_wrap=True)


PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
PROFILE = "profile"
"""Folder of a profiler's reports, in that of the run."""
LR_FIND = f"{FIGURES}/lr_find.png"
"""The picture of the search of a learning rate."""
LIMITED = 1000
"""Rows on which floors and caps are looked for."""


def train(cfg: DictConfig) -> float | None:
    """Train what ``cfg`` describes and return its best validation bound, in nats; ``None`` if nothing was validated.

    The run folder gets ``metrics.csv``, ``checkpoints/``, ``figures/`` and, last, ``result.json``.

    Raises:
        UserError: If the config cannot be trained.
        WorkerFailed: If another process of the run failed.
    """
    check_targets_resolved(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    processes = devices.require(cfg.trainer)
    set_up_torch(cfg)
    checkpoint = newest_good(folder / CHECKPOINTS) if cfg.resume else None
    found = _searched(cfg, folder) if cfg.lr_find and checkpoint is None else None
    data = build_data(cfg)
    model = build_model(cfg, data)
    if checkpoint is not None:
        refuse_unfit(checkpoint, model, data, cfg.trainer.max_epochs)
    started = start_from(cfg.ckpt_path, model, data) if cfg.ckpt_path and checkpoint is None else None
    loggers.quiet()
    begin = partial(_begin, cfg, folder, started, found)
    told = partial(_announce, cfg, folder, model, begin)
    trainer = _build_trainer(cfg, folder, [RunFolder(folder, told), *_threads(cfg, data)])
    refuse_closed_form_in_parallel(model, trainer)
    refuse_small_batches(data, trainer.world_size)
    parameters = sum(p.numel() for p in model.parameters())
    with (
        ended_without(folder),
        loggers.finishing(trainer.loggers),
        worker_processes(processes, child_command(folder)),
    ):
        if first():
            loggers.begin(trainer.loggers, cfg, model.log_px_kind)
        seconds, chosen, path = _fit_and_test(cfg, trainer, model, data, checkpoint, begin)
        if cfg.trainer.fast_dev_run:
            if trainer.is_global_zero:
                print("fast_dev_run: training, validation and test went through; nothing was kept.")
            return None
        result = describe(cfg, trainer, model, data, seconds, parameters)
        result |= _judged(trainer, model, data, chosen)
        if trainer.is_global_zero:
            result["checkpoint"] = _position(trainer, path)
            publish(result, folder)
            _say_what_was_found(cfg, model, folder)
            loggers.summarise(trainer.loggers, result, folder, path)
    return result["validation"]["bound"]


def _fit_and_test(
    cfg: DictConfig,
    trainer: L.Trainer,
    model: LatentVariableModel,
    data: Data,
    checkpoint: Path | None,
    begin: Callable[[], None],
) -> tuple[dict[str, float], str | None, str | None]:
    """Seconds of both, the checkpoint that validation chose, and the one that was tested."""
    folder = Path(trainer.default_root_dir)
    started = time.perf_counter()
    # weights_only: a checkpoint is a pickle, which could otherwise run code
    with told_what_does_not_fit(checkpoint):
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    ended = time.perf_counter()
    begin()  # again: no training starts where all epochs were done and the test was cut short
    chosen, path = _weights_to_test(cfg, trainer, folder)
    trainer.test(model, datamodule=data, ckpt_path=path, weights_only=True, verbose=False)
    fit = ended - started if checkpoint is None else _seconds_in_all(folder, ended - started)
    return {"fit": fit, "test": time.perf_counter() - ended}, chosen, path


def _seconds_in_all(folder: Path, since: float) -> float:
    """Seconds of all epochs of a run that was resumed, of which the last part took ``since``."""
    path = folder / METRICS
    # whoever leaves out the history counts what was seen
    return max(since, sum(row.get("seconds", 0.0) for row in read_metrics(path))) if path.exists() else since


def _judged(trainer: L.Trainer, model: LatentVariableModel, data: Data, chosen: str | None) -> dict[str, Any]:
    """What bears on the scores: on what part of the data they rest, whether EM converged, criteria, floors."""
    converged = model.objective.converged
    with whole_weights(trainer):
        # elsewhere no maximum was looked for, or not that of all training rows
        fitted = converged is not None and coverage.all_trained_on(trainer, data)
        return {
            "partial": [*coverage.sentences(trainer, data, chosen), *_apart(Path(trainer.default_root_dir))],
            "converged": converged,
            "criteria": model.criteria(data.training_rows().to(model.device)) if fitted else None,
            "limits": model.limits(first_rows(data.rows_of("test"), LIMITED).to(model.device)),
        }


def _apart(folder: Path) -> list[str]:
    """What sets a run apart from others of its config: weights it started from, and that it looks for faults."""
    # of the first start, also where the run has gone on since
    started, name = read_object(folder / FORMAT_FILE).get("started"), loggers.debugged()
    faults = f"debug={name} looks for faults: these numbers are no results, and are not ranked" if name else None
    return [sentence for sentence in (started, faults) if isinstance(sentence, str)]


def _weights_to_test(cfg: DictConfig, trainer: L.Trainer, folder: Path) -> tuple[str | None, str | None]:
    """The checkpoint that validation chose, if any, and the one to test: where none was, the last weights are kept."""
    best = None if cfg.trainer.fast_dev_run else _best(trainer)
    if best is None:
        return None, None
    if best.best_model_path:
        return best.best_model_path, best.best_model_path
    path = str(folder / BEST)
    trainer.save_checkpoint(path)
    return None, path


def _position(trainer: L.Trainer, path: str | None) -> dict[str, int]:
    """Where in training the tested weights are from."""
    if path is None:
        return {"epoch": trainer.current_epoch, "step": trainer.global_step}
    weights = AtomicCheckpointIO().load_checkpoint(path)
    return {"epoch": weights["epoch"], "step": weights["global_step"]}


def _validation_bound(trainer: L.Trainer, model: LatentVariableModel) -> float | None:
    """The best validation bound, or where no checkpoint was kept the last one, of the weights that are tested."""
    best, last = _best(trainer), model.summaries.get("val")
    if best is not None and best.best_model_score is not None:
        return best.best_model_score.item()
    return None if last is None else last.scores["bound"]["value"]


def _threads(cfg: DictConfig, data: Data) -> list[Callback]:
    """What looks after the number of threads, unless somebody has set it or every process has one."""
    settled = cfg.threads or set_by_user() or not isinstance(cfg.trainer.strategy, str)
    return [] if settled else [Threads(data.starting_rows()[:1], cfg.data.batch_size)]


def _build_trainer(cfg: DictConfig, folder: Path, own: list[Callback]) -> L.Trainer:
    # it would say that it has turned shuffling off, which it can only of torch's own loaders; ours are in order then
    warnings.filterwarnings("ignore", message="You requested to overfit but enabled")
    # of Apple's, which has no float64
    warnings.filterwarnings("ignore", message="GPU available but not used")
    every = cfg.trainer.check_val_every_n_epoch
    trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(folder),
        accelerator=devices.accelerator(cfg.trainer),
        callbacks=[*own, *_callbacks(cfg)],
        logger=[] if cfg.trainer.fast_dev_run else loggers.build(cfg, folder),
        profiler=_profiler(cfg, folder),
        plugins=[AtomicCheckpointIO(), devices.environment()],
        # a run shorter than the interval would never validate, and keep no best weights
        check_val_every_n_epoch=None if every is None else min(every, cfg.trainer.max_epochs),
        **strategies.asked_for(cfg.trainer),
    )
    # Lightning's answer to SIGTERM broadcasts among processes that may be doing something else; callbacks answer it
    trainer._signal_connector.register_signal_handlers = lambda: None
    if cfg.trainer.enable_checkpointing and not cfg.trainer.fast_dev_run and _best(trainer) is None:
        raise UserError(
            "No callback keeps the best weights; leave callbacks.best in the config (callbacks=default or none)."
        )
    return trainer


def _profiler(cfg: DictConfig, folder: Path) -> Any:
    """Lightning's profiler of the name that the config says, with its report in the run folder."""
    name = cfg.trainer.profiler
    if name is None or cfg.trainer.fast_dev_run:
        return None
    # by its name alone Lightning would log the report, where this command shows nothing of Lightning's
    return PROFILERS[name](dirpath=folder / PROFILE, filename="profile")


def _say_what_was_found(cfg: DictConfig, model: LatentVariableModel, folder: Path) -> None:
    """Tell what a run that looks for faults has found, and where it is written."""
    first_bound, last_bound = model.first_bound, model.last_bound
    if cfg.trainer.overfit_batches and first_bound is not None and last_bound is not None:
        print(
            f"overfit_batches: the bound of what was trained on went from {first_bound:.3f} to {last_bound:.3f} nats "
            "per datum."
        )
    if cfg.trainer.profiler:
        print(f"profiler: the times are in {', '.join(map(str, sorted((folder / PROFILE).glob('*.txt'))))}")


def _searched(cfg: DictConfig, folder: Path) -> Search:
    """Search the learning rate, put it into the config, and leave the process as before.

    The search has data and a model of its own: what it has drawn and changed is no part of the run.
    """
    data = build_data(cfg)
    model = build_model(cfg, data)
    if cfg.ckpt_path:
        start_from(cfg.ckpt_path, model, data)
    loggers.quiet()
    found = search(cfg, model, data)
    print(
        f"lr_find: optimizer.lr={found.rate:g}, a tenth of the rate at which the bound is highest in "
        f"{len(found.rates)} steps at rising rates: {folder / LR_FIND}"
    )
    cfg.lr_find, cfg.optimizer.lr = False, found.rate
    set_up_torch(cfg)
    return found


def _keep_rate(cfg: DictConfig, folder: Path, found: Search) -> None:
    """Write down the rate that was found, by which the run is trained also when it goes on, and draw the search."""
    words = [*HydraConfig.get().overrides.task, "lr_find=false", f"optimizer.lr={found.rate}"]
    resume.record(folder, words, cfg)
    picture = figures.learning_rate(found.rates, found.bounds, found.rate, title=loggers.run_name(cfg))
    figures.save(picture, folder / LR_FIND)


def _begin(cfg: DictConfig, folder: Path, started: str | None, found: Search | None) -> None:
    """Write down of what format a new folder is, or what a run that is resumed goes on with."""
    if not first() or cfg.trainer.fast_dev_run:
        return
    if cfg.resume:
        # its format stays that of the config it was started with
        resume.record(folder, HydraConfig.get().overrides.task, cfg)
    else:
        write_format(folder, debug=loggers.debugged(), started=started)
    if found is not None:
        _keep_rate(cfg, folder, found)


def _announce(cfg: DictConfig, folder: Path, model: LatentVariableModel, begin: Callable[[], None]) -> None:
    """Begin the run, and say where it goes and what was settled for it."""
    begin()
    if first():
        # fast_dev_run keeps nothing
        place = [] if cfg.trainer.fast_dev_run else [f"run folder: {from_here(folder)}"]
        for line in filter(None, [*place, model.rounded_samples]):
            Console().print(Text(line, style="dim"), soft_wrap=True)


def _callbacks(cfg: DictConfig) -> list[Callback]:
    """The callbacks of the config but those that the trainer was asked to do without, which Lightning would refuse."""
    built = [instance(node, Callback) for node in cfg.callbacks.values() if node]
    if cfg.trainer.limit_val_batches == 0 and any(isinstance(callback, EarlyStopping) for callback in built):
        raise UserError(
            "callbacks=early_stopping watches a validation score, and trainer.limit_val_batches=0 leaves none; drop "
            "one of the two."
        )
    unwanted: list[type[Callback]] = []
    if not cfg.trainer.enable_checkpointing:
        unwanted.append(ModelCheckpoint)
    if not cfg.trainer.enable_progress_bar:
        unwanted.append(ProgressBar)
    if cfg.trainer.fast_dev_run:
        unwanted += [History, Pictures, ModelCheckpoint]  # what writes files: Lightning sees to loggers alone
    return [callback for callback in built if not isinstance(callback, tuple(unwanted))]


def _best(trainer: L.Trainer) -> ModelCheckpoint | None:
    """The checkpoint callback that keeps the weights of the best validation bound."""
    kept = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor == "val/bound"]
    return kept[0] if kept else None
