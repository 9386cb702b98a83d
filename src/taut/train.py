"""One run: build, fit, test, write."""

import time
from pathlib import Path

import lightning as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig, OmegaConf

from taut import devices, loggers, recorded
from taut.build import (
    build_data,
    build_model,
    refuse_closed_form_in_parallel,
    refuse_small_batches,
    set_up_torch,
)
from taut.checkpoint import AtomicCheckpointIO, newest_good
from taut.crew import crew
from taut.errors import UserError
from taut.make import make
from taut.ranks import first
from taut.result import describe, publish
from taut.strategies import whole_weights
from taut.targets import check_targets_resolved
from taut.words import child_command

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
        OmegaConf.save(cfg, folder / ".hydra" / "resumed_config.yaml")
    trainer = _build_trainer(cfg, folder)
    refuse_closed_form_in_parallel(model, trainer)
    refuse_small_batches(data, trainer.world_size)
    parameters = sum(p.numel() for p in model.parameters())
    best = _best(trainer)
    checkpoint = newest_good(folder / "checkpoints") if cfg.resume else None
    with loggers.finishing(trainer.loggers), crew(processes, child_command(folder)):
        started = time.perf_counter()
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
    trainer = make(
        cfg.trainer,
        default_root_dir=str(folder),
        callbacks=[make(node) for node in cfg.callbacks.values() if node],
        logger=loggers.build(cfg, folder),
        plugins=[AtomicCheckpointIO(), devices.environment()],
        check_val_every_n_epoch=min(cfg.trainer.check_val_every_n_epoch, cfg.trainer.max_epochs),
        **recorded.asked_for(cfg.trainer),
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
