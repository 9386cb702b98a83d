"""Whole runs whose answer is known from elsewhere."""

import numpy as np
import pytest
from jobs import QUIET, composed, run
from sklearn.decomposition import PCA

from taut.config.instantiate import instantiate


def test_old_faithful_by_em_reaches_its_maximum_likelihood_with_no_gap(trainings, tmp_path):
    """Two full components: -1130.2640 in total over the 272 rows, the best of many starts of an independent EM."""
    result = run(tmp_path, "model=mog", "model.components=2", "data=faithful", *QUIET)
    scores = result["scores"]
    assert scores["log_px"]["kind"] == "exact"
    assert 272 * scores["log_px"]["value"] == pytest.approx(-1130.2640, abs=1e-3)
    assert abs(scores["gap"]["value"]) < 1e-9
    assert scores["ess"]["value"] == pytest.approx(1000)


def test_linear_vae_reaches_scikit_learn_s_pca(trainings, tmp_path):
    result = run(tmp_path, "experiment=linear_vae", *QUIET)
    data = instantiate(composed(tmp_path, "experiment=linear_vae").data)
    data.setup()
    pca = PCA(2).fit(data.splits.train.double().numpy())
    expected = pca.score(data.splits.test.double().numpy())
    assert result["scores"]["log_px"]["value"] == pytest.approx(expected, abs=0.01)
    assert result["scores"]["elbo"]["value"] == pytest.approx(expected, abs=0.01)
    assert 0 <= result["scores"]["gap"]["value"] < 0.01


@pytest.mark.parametrize("model", ["ppca", "fa"])
def test_collinear_incomes_have_no_gap_and_name_their_floor(trainings, model, tmp_path):
    """An "exact" log p(x) 5.18 nats above the ELBO of its own posterior, in units of 1e5.

    With one direction of variance lambda and noise at the floor s in the others, log p = -(3 log 2 pi + log lambda +
    log s_2 + log s_3 + 1) / 2 on average: nothing of the rows is left in those directions. Under factor analysis that
    holds in the columns over their deviations, whose covariance is of ones: lambda = 3.
    """
    income = 3e5 + 5e4 * np.random.default_rng(0).normal(size=200)
    x = np.stack([income, 0.4 * income + 116, 3e5 - income], 1)
    np.save(tmp_path / "incomes.npy", x)
    data = ["data=table", f"data.path={tmp_path / 'incomes.npy'}", "data.val_fraction=0", "data.test_fraction=0"]
    result = run(tmp_path / "run", f"model={model}", "latent_dim=1", *data, "trainer.max_epochs=10", *QUIET)
    scores, variances = result["scores"], x.var(0)
    if model == "ppca":
        log_det = np.log(variances.sum()) + 2 * np.log(1e-14 * variances.mean())
    else:
        log_det = np.log(variances).sum() + np.log(3) + 2 * np.log(1e-14)
    assert scores["log_px"]["value"] == pytest.approx(-0.5 * (3 * np.log(2 * np.pi) + log_det + 1), abs=1e-5)
    assert scores["log_px"]["kind"] == "exact"
    assert abs(scores["gap"]["value"]) < 1e-6
    assert len(result["limits"]) == 1
    assert "of all columns is at its floor" in result["limits"][0]


@pytest.mark.parametrize(
    "words",
    [
        ["prior=mixture", "optimizer.lr=0.1"],
        ["prior=vamp", "optimizer.lr=1"],
        ["prior=uniform", "q=full", "optimizer.lr=1"],
    ],
    ids=" ".join,
)
def test_no_rounding_lifts_the_bound_of_a_mass(trainings, words, tmp_path):
    """Rates at which q becomes narrow far from 0: in float32 the "lower bounds" of these runs were +20 to +10,000."""
    sizes = ["trainer.max_epochs=4", "k_test=20", "k_eval=5", "data.batch_size=200"]
    scores = run(tmp_path, *words, *sizes, *QUIET)["scores"]
    for name in ("elbo", "bound", "log_px"):
        assert scores[name]["value"] < 0
    assert scores["kl"]["value"] > -6 * scores["kl"]["monte_carlo_error"]
    assert scores["elbo"]["value"] <= scores["log_px"]["value"]


def test_an_offset_of_a_table_changes_nothing_in_single_precision(trainings, tmp_path):
    """At 1e9 neighbouring float32 numbers lie 64 apart, and float64 ones 1e-7: the tolerance."""
    x = np.random.default_rng(0).normal(size=(300, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
    found = []
    for offset in (0.0, 1e9):
        np.save(tmp_path / "x.npy", x + offset)
        data = ["data=table", f"data.path={tmp_path / 'x.npy'}", "data.val_fraction=0", "data.test_fraction=0"]
        words = ["model=vae", "likelihood=gaussian", "network.hidden=[16]", "latent_dim=2", "trainer.max_epochs=5"]
        found.append(run(tmp_path / f"{offset:g}", *words, *data, "k_test=100", *QUIET)["scores"])
    for name in ("elbo", "log_px", "kl"):
        assert found[1][name]["value"] == pytest.approx(found[0][name]["value"], abs=1e-3), name
