"""One contract for every entry of conf/evidence: a new estimator is tested by adding its file and its yaml."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from completion.exact import gaussians
from hydra import compose, initialize_config_dir
from pieces import CONF, build, names
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical

from taut.config.instantiate import instantiate
from taut.evidence import Evidence, Target
from taut.functional.missing import apply_mask
from taut.model import exact_inference
from taut.model.joint import Joint
from taut.testing import Known, check_evidence, gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")

ESTIMATORS = [name for name in names("evidence") if name != "default"]
FEW = {"steps": 4, "chains": 3, "leapfrog": 3, "runs": 20}


def _with_holes(*words: str) -> Known:
    """A model of the package on data with holes: log p(x_obs) by scipy, or by a sum over a line of z."""
    joint, _, _ = build(*words, x_shape=(4,))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        z, x = joint.sample(40)
        x = apply_mask(x, torch.rand(x.shape) < 0.6)
        if exact_inference.tractable(joint):
            truth = torch.tensor([gaussians(joint).log_prob(row) for row in x.numpy()])
        else:
            line = torch.linspace(-8, 8, 4001).view(-1, 1, 1)
            truth = joint.log_prob(x, line.expand(-1, 40, 1)).logsumexp(0) + math.log(16 / 4000)
    return Known(Target.of(joint, lambda rows: _wider(joint, rows)), x, z, truth)


def _wider(joint: Joint, x: torch.Tensor) -> Distribution:
    """A q that is near the posterior and wider."""
    if not exact_inference.tractable(joint):
        return joint.prior().expand((len(x),))
    posterior = exact_inference.posterior(joint, x)
    if isinstance(posterior, OneHotCategorical):
        return OneHotCategorical(probs=0.5 * posterior.probs.detach() + 0.5 / posterior.probs.shape[-1])
    return Independent(Normal(posterior.mean.detach(), 1.2 * posterior.stddev.detach()), 1)


MODELS: dict[str, Callable[[], Known]] = {
    "linear-Gaussian": lambda: linear_gaussian(2, 4, 40, width=1.2),
    "mixture": lambda: gaussian_mixture(40),
    "linear-Gaussian with holes": lambda: _with_holes("model=ppca", "latent_dim=2"),
    "factor analysis with holes": lambda: _with_holes("model=fa", "latent_dim=2"),
    "mixture with holes": lambda: _with_holes("model=mog", "model.components=3"),
    "line with holes": lambda: _with_holes("likelihood=gaussian", "latent_dim=1"),
}


@cache
def _known() -> list[Known]:
    """Every model with its truth, once for all estimators."""
    return [known() for known in MODELS.values()]


def _made(name: str) -> Evidence:
    """The estimator as the command line would build it, with few samples."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("evaluate", [f"evidence={name}", "run=x", "k=40"]).evidence[name]
    for key in FEW.keys() & node.keys():
        node[key] = FEW[key]
    return instantiate(node)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_keeps_its_contract(name):
    estimator = _made(name)
    assert estimator.name == name
    check_evidence(estimator, _known())
