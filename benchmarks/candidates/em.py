"""EM for a mixture of Gaussians with full covariances in float64: products alone, scikit-learn, and this project.

A step is an iteration; its value is the mean log p(x) found by the E-step, nats.
"""

from pathlib import Path
from time import sleep
from typing import Any

import numpy as np

from benchmarks.candidates import command
from benchmarks.worker import Clock

CHUNK = 4096


def floor(clock: Clock, n: int, d: int, components: int) -> None:
    """One product for the E-step and one for the M-step, of features 1, x and x x', in chunks that fit the cache."""
    import torch

    features = torch.randn(CHUNK, 1 + d + d * (d + 1) // 2, dtype=torch.float64)
    natural = torch.randn(components, features.shape[1], dtype=torch.float64)
    scores, sums = torch.empty(components, CHUNK, dtype=torch.float64), torch.zeros_like(natural)
    clock.tick(0)
    while True:
        for start in range(0, n, CHUNK):
            size = min(CHUNK, n - start)
            torch.mm(natural, features[:size].mT, out=scores[:, :size])
            torch.addmm(sums, scores[:, :size], features[:size], beta=0, out=sums)
        clock.tick()


def sklearn(clock: Clock, table: str, start: str) -> None:
    """``GaussianMixture`` from the start that this project chose."""
    from sklearn.mixture import GaussianMixture

    class Ticking(GaussianMixture):
        def _m_step(self, *arguments: Any, **options: Any) -> None:
            super()._m_step(*arguments, **options)
            clock.tick(1, lambda: self.found)

        def _e_step(self, x: np.ndarray, **options: Any) -> Any:
            answer = super()._e_step(x, **options)
            self.found = float(answer[0])
            return answer

    while not Path(start).exists():
        sleep(0.1)
    with np.load(start) as file:
        given = {f"{name}_init": file[name] for name in ("weights", "means", "precisions")}
    clock.tick(0)
    Ticking(len(given["means_init"]), tol=0.0, reg_covar=0.0, max_iter=10**9, **given).fit(np.load(table))


def taut(clock: Clock, table: str, components: int, start: str) -> None:
    """``python train.py model=mog``, an iteration per epoch; ``start`` is where its first parameters are left."""
    words = ["model=mog", f"model.components={components}", "data=table", f"data.path={table}"]
    words += ["data.val_fraction=0", "data.test_fraction=0", "objective.tolerance=0", "hydra.run.dir=run"]
    command.run([*words, *command.ENDLESS], lambda: _ticks(clock, start))


def _ticks(clock: Clock, start: str) -> Any:
    from lightning.pytorch import Callback

    class Ticks(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            _leave(pl_module.joint, Path(start))
            clock.tick(0)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            clock.tick(1, lambda: trainer.callback_metrics["train/bound"].item())

    return Ticks()


def _leave(joint: Any, start: Path) -> None:
    covariances = joint.likelihood.covariances().detach().numpy()
    partial = start.with_name("partial.npz")
    np.savez(
        partial,
        weights=joint.prior.probs.detach().numpy(),
        means=joint.likelihood.means.detach().numpy(),
        precisions=np.linalg.inv(covariances),
    )
    partial.replace(start)
