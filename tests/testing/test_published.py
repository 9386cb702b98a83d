"""Models whose log evidence is published, against scipy: the compression strength of radiata pines.

Each regression has one z for all of its data, so the data of an audit are one datum of 42 numbers.
"""

import numpy as np
import pytest
from evaluations import command
from scipy import stats

import taut
from taut.config.pieces import PUBLISHED as LOADABLE
from taut.testing import published as models
from taut.testing.published import CENTRE, PRECISION, RATE, SHAPE, STRENGTH, Regression

PUBLISHED = {"density": -310.1280, "without_resin": -301.7046}
DENSITIES = {"density": models.DENSITY, "without_resin": models.WITHOUT_RESIN}


@pytest.mark.parametrize("density", PUBLISHED)
def test_the_log_evidence_of_radiata_pine_is_the_published_one(density):
    """A change of variable forgotten, or a prior without its constant."""
    published, model = PUBLISHED[density], Regression(DENSITIES[density])
    prior = model.design / PRECISION @ model.design.T
    marginal = stats.multivariate_t(model.design @ CENTRE, RATE / SHAPE * (np.eye(42) + prior), 2 * SHAPE)
    assert marginal.logpdf(STRENGTH) == pytest.approx(published, abs=5e-4)
    loaded = getattr(models, f"radiata_pine_{density}")()
    report = taut.audit(loaded, k=20000, evidence=["importance", "struski"], reported=published)
    found = report.evidence["importance"]
    assert abs(found["value"] - published) < 4 * found["monte_carlo_error"] + 1e-3 < 0.05
    assert "lies inside the bracket" in report.result["reported"]["words"]
    assert found["diagnostics"]["khat"]["median"] < 0.7


def test_models_that_may_be_loaded_are_there_and_no_other_function_of_taut_is_called(tmp_path, command_in_process):
    for place in LOADABLE:
        assert callable(getattr(models, place.partition(":")[2]))
    for place in ("taut.testing.published:Regression", "taut.testing.published:Functions", "taut.__main__:main"):
        done = command("audit", f"model={place}")
        assert done.code == 2
        assert done.err.strip() == f"model={place} may not be called: it is no function of a package of yours."
