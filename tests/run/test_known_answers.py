"""Whole runs whose answer is known from elsewhere."""

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
