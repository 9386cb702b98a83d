"""What several processes compute together is what one computes: noise, rows, gradients, scores."""

import csv
import json
from pathlib import Path

import pytest
import torch
from commands.jobs import QUIET, composed
from runtime.several_processes import in_processes
from torch.distributions.utils import _standard_normal
from torch.special import ndtri

from taut.commands.train import train
from taut.functional import seeding
from taut.objective import base, dreg  # noqa: F401 (before the fork)
from taut.training import module
from taut.training.callbacks import history

pytestmark = pytest.mark.usefixtures("trainings")  # by several processes at once
DOUBLE = [*QUIET, "trainer.precision=64-true", "k_eval=5", "k_test=5", "network.hidden=[8]", "latent_dim=3"]
SMALL = [*DOUBLE, "trainer.max_epochs=1", "data.batch_size=211", "optimizer=sgd", "optimizer.lr=1e-9"]
"""1,078 rows in batches of 211, the last of 23: no batch is as many rows for each of two or three processes."""


def _strategy(world: int, name: str = "ddp_cpu") -> list[str]:
    return [f"strategy={name}", "trainer.accelerator=cpu", f"trainer.devices={world}"] if world > 1 else []


def _trained(folder: Path, world: int, *words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train(composed(folder, *_strategy(world), *words))


class Recorder:
    """What the training steps of this process met, taken down where the model calls."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.draws: list[torch.Tensor] = []
        self.rows: dict[str, list[torch.Tensor]] = {"train": [], "val": [], "test": []}
        self.gradients: list[torch.Tensor] = []
        self.shares: list[tuple[int, int]] = []
        # hooks that are patched in place are not seen to be another's
        patch.setattr(module.further_steps, "possible", lambda *_: False)
        patch.setattr(module.seeding, "key", self._key)
        patch.setattr(base, "draw", self._draw)
        for split, step in {"train": "training_step", "val": "validation_step", "test": "test_step"}.items():
            patch.setattr(
                module.LatentVariableModel, step, self._step(split, getattr(module.LatentVariableModel, step))
            )
        hook = module.LatentVariableModel.on_before_optimizer_step
        patch.setattr(module.LatentVariableModel, "on_before_optimizer_step", self._gradient(hook))

    def _key(self, seed, stream, counter, key=seeding.key):
        found = key(seed, stream, counter)
        if stream == "train":
            self.keys.append(found)
        return found

    def _draw(self, *args, draw=base.draw, **kwargs):
        draws = draw(*args, **kwargs)
        self.draws.append(draws.z.detach().flatten(0, 1))
        return draws

    def _step(self, split, step):
        def recorded(model, batch, batch_idx):
            self.rows[split].append(batch.index.clone())
            if split == "train":
                self.shares.append((len(batch.index), batch.total))
            return step(model, batch, batch_idx)

        return recorded

    def _gradient(self, hook):
        def recorded(model, optimizer):
            self.gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).clone())
            return hook(model, optimizer)

        return recorded

    def all(self):
        rows = {split: [part.tolist() for part in parts] for split, parts in self.rows.items()}
        return {
            "keys": self.keys,
            "draws": torch.cat(self.draws),
            "rows": rows,
            "gradients": self.gradients,
            "shares": self.shares,
        }


def _recorded(tmp_path: Path, world: int, *words: str, patched=None) -> list[dict]:
    def work():
        with pytest.MonkeyPatch.context() as patch:
            if patched:
                patched(patch)
            recorder = Recorder(patch)
            _trained(tmp_path / f"run{world}", world, *words)
        return recorder.all()

    return in_processes(world, work, tmp_path / f"of{world}")


def test_no_two_processes_and_steps_share_noise_and_every_row_is_met_once(tmp_path):
    world, epochs = 3, 2
    ranks = _recorded(tmp_path, world, *SMALL, "trainer.max_epochs=2", "data.batch_size=50", "model=iwae", "k=4")
    keys = [key for rank in ranks for key in rank["keys"]]
    steps = len(ranks[0]["shares"])
    assert len(keys) == len(set(keys)) == world * steps
    draws = torch.cat([rank["draws"] for rank in ranks])
    assert len(draws) == epochs * 1078 * 4
    assert len(draws.unique(dim=0)) == len(draws)
    for split, size, times in (("train", 1078, epochs), ("val", 359, epochs), ("test", 360, 1)):
        parts = [row for rank in ranks for part in rank["rows"][split] for row in part]
        assert sorted(parts) == sorted([*range(size)] * times), split
    assert all(sum(rank["shares"][i][0] for rank in ranks) == ranks[0]["shares"][i][1] for i in range(steps))


def _noise_of_the_rows(patch: pytest.MonkeyPatch) -> None:
    """Draws that are a function of the datum, whichever process has it."""
    met = {}
    directions = torch.rand(8, 3, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def start(model, batch, batch_idx):
        met["x"] = batch.x

    def standard_normal(shape, dtype, device, own=_standard_normal):
        if not torch.is_grad_enabled():
            return own(shape, dtype, device)
        x = met["x"].flatten(1)
        k, _, size = shape
        phase = (x[None, :, None, :] * directions[:k, None, :size, :]).sum(-1) * 97
        return ndtri(phase.remainder(1).clamp(1e-3, 1 - 1e-3)).to(dtype)

    patch.setattr(module.LatentVariableModel, "on_train_batch_start", start)
    patch.setattr("taut.distributions.gaussian.standard_normal", standard_normal)
    patch.setattr("torch.distributions.multivariate_normal._standard_normal", standard_normal)


OBJECTIVES = {
    "elbo": ["model=vae"],
    "iwae": ["model=iwae", "k=5"],
    "dreg": ["model=iwae", "objective=dreg", "k=5"],
    "stl": ["model=iwae", "objective=stl", "k=5", "q=full"],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_is_that_of_one_process_on_the_joint_batch(objective, tmp_path):
    """Shards of 106 and 105 rows, at the end of 12 and 11: a mean of means, or a sum for a mean, is seen."""
    words = [*SMALL, *OBJECTIVES[objective], "data.binarisation=fixed"]
    (one,) = _recorded(tmp_path, 1, *words, patched=_noise_of_the_rows)
    ranks = _recorded(tmp_path, 2, *words, patched=_noise_of_the_rows)
    assert len(ranks[0]["gradients"]) == len(one["gradients"]) == 6
    assert ranks[0]["shares"] != ranks[1]["shares"]
    for rank in ranks:
        for found, expected in zip(rank["gradients"], one["gradients"], strict=True):
            assert (found - expected).norm() <= 1e-10 * expected.norm()
    _same_history(tmp_path / "run1", tmp_path / "run2", 1e-10, "train/")


def _same_history(one: Path, two: Path, tolerance: float, *prefixes: str) -> None:
    for own, other in zip(history.read(one / history.NAME), history.read(two / history.NAME), strict=True):
        names = [name for name in own if name.startswith(prefixes)]
        assert names
        for name in names:
            assert other[name] == pytest.approx(own[name], rel=tolerance, abs=1e-15), name


def test_scores_are_those_of_one_process(tmp_path):
    """At a rate too small to move a weight all evaluate the same model; only the sharding differs."""
    world = 2
    words = [*SMALL, "optimizer.lr=1e-300", "model=iwae", "k=5", "data.batch_size=50"]
    for number in (1, world):
        _recorded(tmp_path, number, *words)
    _same_history(tmp_path / "run1", tmp_path / f"run{world}", 1e-12, "val/")
    one, several = (json.loads((tmp_path / f"run{n}" / "result.json").read_text()) for n in (1, world))
    for name, score in one["scores"].items():
        for part in ("value", "standard_error", "monte_carlo_error"):
            if score.get(part) is not None:
                found = several["scores"][name][part]
                assert found == pytest.approx(score[part], rel=1e-12, abs=1e-14), (name, part)
    assert one["n"] == several["n"] == 360


@pytest.mark.parametrize("rows", [2, 3, 11])
def test_splits_of_a_few_rows(rows, tmp_path):
    """A last batch of one row, and a split with fewer rows than there are processes."""
    path = tmp_path / "few.csv"
    with path.open("w") as file:
        csv.writer(file).writerows([[0.1 * i, (7 * i % 5) - 2.0] for i in range(rows + 2)])
    fractions = f"data.val_fraction={1 / (rows + 2)}", f"data.test_fraction={1 / (rows + 2)}"
    table = [*DOUBLE, "model=ppca", "objective=exact", "latent_dim=1", "optimizer.lr=1e-300", "trainer.max_epochs=2"]
    table += ["data=table", f"data.path={path}", *fractions, "data.batch_size=2"]
    _recorded(tmp_path, 1, *table)
    ranks = _recorded(tmp_path, 2, *table)
    for split, size in (("train", rows), ("val", 1), ("test", 1)):
        parts = [row for rank in ranks for part in rank["rows"][split] for row in part]
        epochs = 1 if split == "test" else 2
        assert sorted(parts) == sorted([*range(size)] * epochs), split
    _same_history(tmp_path / "run1", tmp_path / "run2", 1e-12, "val/")
