"""Whole runs whose answer is known from elsewhere."""

import numpy as np
import pytest
from jobs import QUIET, composed, run
from sklearn.decomposition import PCA

from taut.make import make


def test_old_faithful_by_em_reaches_its_maximum_likelihood_with_no_gap(tmp_path):
    """Two full components: -1130.2640 in total over the 272 rows, the best of many starts of an independent EM."""
    result = run(tmp_path, "model=mog", "model.components=2", "data=faithful", *QUIET)
    scores = result["scores"]
    assert scores["log_px"]["kind"] == "exact"
    assert 272 * scores["log_px"]["value"] == pytest.approx(-1130.2640, abs=1e-3)
    assert abs(scores["gap"]["value"]) < 1e-9
    assert scores["ess"]["value"] == pytest.approx(1000)


def test_linear_vae_reaches_scikit_learn_s_pca(tmp_path):
    result = run(tmp_path, "experiment=linear_vae", *QUIET)
    data = make(composed(tmp_path, "experiment=linear_vae").data)
    data.setup()
    pca = PCA(2).fit(data.splits.train.double().numpy())
    expected = pca.score(data.splits.test.double().numpy())
    assert result["scores"]["log_px"]["value"] == pytest.approx(expected, abs=0.01)
    assert result["scores"]["elbo"]["value"] == pytest.approx(expected, abs=0.01)
    assert 0 <= result["scores"]["gap"]["value"] < 0.01


@pytest.mark.parametrize("model", ["ppca", "fa"])
def test_collinear_incomes_have_no_gap_and_name_their_floor(model, tmp_path):
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
