"""The search of a learning rate: a short training at rising rates, on a model that is thrown away."""

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from taut.config.instantiate import instantiate
from taut.data.base import Data
from taut.errors import RunError, UserError
from taut.runtime import devices
from taut.training.callbacks.signals import GracefulStop
from taut.training.checkpoint import AtomicCheckpointIO
from taut.training.module import LatentVariableModel

STEPS, LOWEST, HIGHEST = 100, 1e-6, 1.0
"""Steps of the search, and the rates of the first and the last."""
SMOOTHING = 0.9
"""Weight of what came before in the running mean of the bounds; it lags some ten steps behind."""
BELOW = 10
"""How far below the rate of the highest bound a run is safe: the mean lags, and a run lasts longer than a search."""
FEWEST = 20
"""Steps without which a search tells nothing."""


@dataclass(frozen=True)
class Search:
    """What a search has seen.

    Args:
        rates: The rate of every step.
        bounds: The running mean of the bounds before it, nats per datum.
        rate: A tenth of the rate at which that mean is highest, rounded to two digits.
    """

    rates: list[float]
    bounds: list[float]
    rate: float


class _RisingRates(L.Callback):
    """Gives every step its rate, and ends the training where its bound falls below its start by more than it rose."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.bounds: list[float] = []
        self._mean = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        rate = LOWEST * (HIGHEST / LOWEST) ** (trainer.global_step / (STEPS - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        bound, step = -float(outputs["loss"]), len(self.bounds) + 1
        if not math.isfinite(bound):
            trainer.should_stop = True
            return
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * bound
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.bounds.append(self._mean / (1 - SMOOTHING**step))
        start, best = self.bounds[0], max(self.bounds)
        if step >= FEWEST and start - self.bounds[-1] > best - start + 1:
            trainer.should_stop = True


def search(cfg: DictConfig, model: LatentVariableModel, data: Data) -> Search:
    """Train for a hundred steps at rates from 1e-6 to 1, and take a tenth of that at which the bound is highest.

    The range test of Smith (2017). Lightning's finder runs the loop of the trainer without the hooks that begin a fit,
    on which these models rely; it stops where the loss is four times the best, which a negative one is at once; and it
    takes the steepest slope against the rate itself, which noise at the lowest rates decides.

    Args:
        cfg: The config of the run.
        model: A model of that config, of no further use afterwards.
        data: Its data.

    Raises:
        UserError: If the objective makes no steps by gradients, or no rate makes the bound rise.
    """
    if model.objective.closed_form:
        raise UserError("lr_find=true: this objective makes no steps by gradients and has no rate; leave it out.")
    rates = _RisingRates()
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with TemporaryDirectory() as folder:
        trainer = _trainer(cfg, Path(folder), rates)
        try:
            trainer.fit(model, datamodule=data)
        except RunError:  # it diverged, which is how a search may end
            if len(rates.bounds) < FEWEST:
                raise
        finally:
            # as the trainer found it, so that the model of the run is built as without a search
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    return Search(rates.rates, rates.bounds, _suggested(rates.rates, rates.bounds))


def _trainer(cfg: DictConfig, folder: Path, rates: _RisingRates) -> L.Trainer:
    """The trainer of the run, without all that judges, keeps or reports."""
    trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(folder),  # a stop writes a checkpoint, which nothing may go on from
        accelerator=devices.accelerator(cfg.trainer),
        strategy="auto",
        callbacks=[rates, GracefulStop()],
        logger=[],
        profiler=None,
        plugins=[AtomicCheckpointIO(), devices.environment()],
        max_epochs=-1,
        max_steps=STEPS,
        max_time=None,
        check_val_every_n_epoch=1,
        val_check_interval=None,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    # as of the run's own trainer: callbacks answer SIGTERM
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def _suggested(rates: list[float], bounds: list[float]) -> float:
    highest = max(range(len(bounds)), key=bounds.__getitem__)
    if highest < FEWEST:
        raise UserError("lr_find=true found no rate at which the bound rises; set optimizer.lr yourself.")
    return float(f"{rates[highest] / BELOW:.1e}")
