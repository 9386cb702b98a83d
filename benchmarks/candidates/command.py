"""The real command line of this project in a process of the harness: all it does, and a callback that counts steps."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import work
from benchmarks.worker import Clock

CONF = Path(__file__).resolve().parents[2] / "conf"
ENDLESS = ["trainer.max_epochs=1000000", "trainer.check_val_every_n_epoch=1000000"]


def data_words(table: str) -> list[str]:
    """MNIST where it is there, else grey pixels from a file."""
    if work.has_mnist():
        return ["data=mnist"]
    return ["data=table", f"data.path={table}", "data.binarisation=dynamic", "data.val_fraction=0.01"]


def train(clock: Clock, words: list[str], validation: str | None = None) -> None:
    """``python train.py`` with these words; a step is a training step."""
    run([*words, *ENDLESS, "hydra.run.dir=run"], lambda: _ticks(clock, validation))


def run(words: list[str], callback: Callable[[], Any]) -> None:
    """``python train.py`` with these words and one more callback, the last."""
    from taut import cli

    def entry(cfg: Any) -> float | None:
        from taut.commands import train

        build = train._build_trainer

        def built(*args: Any) -> Any:
            trainer: Any = build(*args)
            trainer.callbacks.append(callback())
            return trainer

        train._build_trainer = built
        return train.train(cfg)

    sys.argv = ["train.py", *words]
    sys.exit(cli.main("train", CONF, entry))


def _ticks(clock: Clock, validation: str | None) -> Any:
    from lightning.pytorch import Callback

    class Ticks(Callback):
        every_step = False
        steps = 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            clock.tick(0)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            made, self.steps = trainer.global_step - self.steps, trainer.global_step
            clock.tick(made, partial(validated, pl_module, validation) if validation else None)

    return Ticks()


def validated(model: Any, path: str) -> float:
    """Mean bound of validation images at the K of training, nats."""
    import numpy as np
    import torch

    from taut.functional.bounds import iwae
    from taut.model.draws import draw

    images = torch.tensor(np.load(path)).unflatten(1, model.q.x_shape)
    with torch.no_grad(), torch.random.fork_rng():
        bounds = [iwae(draw(model.joint, model.q, x, model.k).log_w) for x in images.split(work.BATCH)]
    return torch.cat(bounds).mean().item()
