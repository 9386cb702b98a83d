"""EM ends when it has converged, what it ends with is validated and tested, and the run says so."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import QUIET, run
from sklearn.mixture import GaussianMixture

from taut.data.faithful import Faithful
from taut.errors import UserError

MIXTURE = ["model=mog", "model.components=2", *QUIET]
FAITHFUL = [*MIXTURE, "data=faithful"]


def _validated(folder: Path) -> list[tuple[int, float]]:
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/bound")]
    return [(int(row["epoch"]), float(row["val/bound"])) for row in rows]


def _weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if name.startswith("joint.")}


def _resumed(folder: Path, *words: str) -> dict[str, Any]:
    (folder / ".hydra").mkdir(exist_ok=True)
    return run(folder, *words, f"resume={folder}")


def test_em_stops_at_its_tolerance_and_its_criteria_are_those_of_scikit_learn(trainings, tmp_path):
    result = run(tmp_path, *FAITHFUL)
    assert result["converged"] is True
    assert result["epochs"] < 100
    x = Faithful(batch_size=None).splits.train.double().numpy()
    other = GaussianMixture(2, tol=1e-10, reg_covar=0, max_iter=1000, random_state=0).fit(x)
    found = result["criteria"]
    assert found["bic"] == pytest.approx(other.bic(x), abs=0.01)
    assert found["aic"] == pytest.approx(other.aic(x), abs=0.01)
    assert found["log_likelihood"] == pytest.approx(272 * result["scores"]["log_px"]["value"], rel=1e-9)
    assert (found["n"], found["parameters"]) == (272, 11)


def test_the_last_parameters_are_validated_and_tested_whatever_the_interval(trainings, tmp_path):
    table = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    np.save(table, rng.standard_normal((120, 2)))
    words = [*MIXTURE, "data=table", f"data.path={table}", "model.components=4", "likelihood.min_variance=1e-3"]
    words += ["data.val_fraction=0.3", "trainer.check_val_every_n_epoch=4"]
    result = run(tmp_path / "all", *words)
    assert result["converged"] is True
    assert result["epochs"] % 4
    epochs, bounds = zip(*_validated(tmp_path / "all"), strict=True)
    assert epochs[-1] == result["epochs"] - 1
    assert epochs[:-1] == tuple(range(3, result["epochs"] - 1, 4))
    assert bounds[-1] < max(bounds)  # it has over-fitted, and is still what was asked for
    assert result["validation"]["bound"] == pytest.approx(bounds[-1])
    kept = tmp_path / "all" / "checkpoints"
    best, last = _weights(kept / "best.ckpt"), _weights(max(kept.glob("recent*")))
    assert all(torch.equal(best[name], value) for name, value in last.items())


def test_a_ceiling_that_is_reached_first_is_no_convergence(trainings, tmp_path):
    every = "trainer.check_val_every_n_epoch=3"
    result = run(tmp_path, *FAITHFUL, "trainer.max_epochs=4", "objective.tolerance=1e-12", every)
    assert (result["converged"], result["epochs"]) == (False, 4)
    assert [epoch for epoch, _ in _validated(tmp_path)] == [2, 3]


def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(trainings, tmp_path):
    whole = run(tmp_path / "whole", *FAITHFUL)
    run(tmp_path / "halves", *FAITHFUL, "trainer.max_epochs=3")
    halves = _resumed(tmp_path / "halves", *FAITHFUL)
    assert halves["epochs"] == whole["epochs"]
    assert halves["converged"] is True
    assert halves["scores"]["log_px"]["value"] == whole["scores"]["log_px"]["value"]
    again = _resumed(tmp_path / "whole", *FAITHFUL)
    assert again["converged"] is True
    assert again["epochs"] <= whole["epochs"] + 1


def test_several_starts_are_no_worse_and_are_made_once(trainings, tmp_path, monkeypatch):
    one, five = (run(tmp_path / n, *FAITHFUL, "model.components=4", f"model.n_init={n}") for n in "15")
    assert five["scores"]["log_px"]["value"] >= one["scores"]["log_px"]["value"] - 1e-6
    assert five["epochs"] <= 5
    monkeypatch.setattr("taut.training.models.best_of", None)
    again = _resumed(tmp_path / "5", *FAITHFUL, "model.components=4", "model.n_init=5")
    assert again["scores"]["log_px"]["value"] == pytest.approx(five["scores"]["log_px"]["value"], abs=1e-6)


def test_a_gradient_has_neither_tolerance_nor_criteria_of_a_maximum(trainings, tmp_path):
    words = ["q=categorical", "objective=iwae", "k=4", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1"]
    result = run(tmp_path, *FAITHFUL, *words)
    assert result["converged"] is None
    assert result["criteria"] is None
    assert result["limits"] == []


def test_starts_that_em_cannot_compare_are_refused(tmp_path):
    words = ["q=categorical", "objective=iwae", "k=4", "model.n_init=2"]
    with pytest.raises(UserError, match="objective=em; leave it at 1"):
        run(tmp_path, *FAITHFUL, *words)


def test_probabilistic_pca_stops_too(trainings, tmp_path):
    table = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    np.save(table, rng.standard_normal((200, 1)) @ rng.standard_normal((1, 4)) * 3 + rng.standard_normal((200, 4)))
    words = ["data=table", f"data.path={table}", "data.val_fraction=0", "data.test_fraction=0"]
    result = run(tmp_path, "model=ppca", "latent_dim=1", *words, *QUIET)
    assert result["converged"] is True
    assert result["epochs"] < 1000
