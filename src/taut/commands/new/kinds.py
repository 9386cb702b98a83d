"""The groups that ``taut new`` makes pieces of: where taut has its own, and the yaml, the test and the command."""

from dataclasses import dataclass

TRAIN = "taut train trust={package} --config-dir {package}/conf"


@dataclass(frozen=True)
class Kind:
    """One group.

    Args:
        group: The config group; the template is the module of this name.
        folder: Where taut has its own pieces of the group.
        yaml: The content of the yaml, with ``{target}`` in place of the class.
        test: The content of the test, of ``Mine`` in ``PACKAGE.mine``.
        command: What to type next.
    """

    group: str
    folder: str
    yaml: str
    test: str
    command: str


PRIOR = Kind(
    "prior",
    "model/prior",
    """# A prior of mine (--help shows this line)
_target_: {target}
dim: ${{latent_dim}}
scale: 1.0
""",
    '''"""The prior of PACKAGE.mine keeps the contract of priors."""

import pytest
from PACKAGE.mine import Mine
from taut.testing import check_prior


@pytest.mark.parametrize("dim", [1, 3])
def test_a_prior_keeps_its_contract(dim):
    check_prior(Mine(dim))
''',
    f"{TRAIN} prior={{name}}",
)
Q = Kind(
    "q",
    "model/q",
    """# A q of mine (--help shows this line)
_target_: {target}
x_shape: ${{x_shape}}
encoder: ${{network.encoder}}
""",
    '''"""The family of PACKAGE.mine keeps the contract of variational families."""

from functools import partial

import pytest
from PACKAGE.mine import Mine
from taut.model.joint import Joint
from taut.model.likelihood.linear import Linear
from taut.model.networks import MLPEncoder
from taut.model.prior.normal import Normal
from taut.testing import check_q


@pytest.mark.parametrize("dim", [1, 2])
def test_a_q_keeps_its_contract(dim):
    joint = Joint(Normal(dim), Linear((5,), dim))
    check_q(Mine(joint, (5,), partial(MLPEncoder, hidden=[8], activation="tanh")))
''',
    f"{TRAIN} q={{name}}",
)
LIKELIHOOD = Kind(
    "likelihood",
    "model/likelihood",
    """# @package _global_
# A likelihood of mine (--help shows this line)
likelihood:
  _target_: {target}
  x_shape: ${{x_shape}}
  decoder: ${{network.decoder}}
data:
  binarisation: none
""",
    '''"""The likelihood of PACKAGE.mine keeps the contract of likelihoods."""

from functools import partial

import pytest
import torch
from PACKAGE.mine import Mine
from taut.model.networks import MLPDecoder
from taut.testing import check_likelihood


@pytest.mark.parametrize("x_shape", [(1,), (3,), (1, 4, 4)])
def test_a_likelihood_keeps_its_contract(x_shape):
    likelihood = Mine(x_shape, 2, partial(MLPDecoder, hidden=[8], activation="tanh"))
    check_likelihood(likelihood, z=torch.randn(4, 5, 2))
''',
    f"{TRAIN} likelihood={{name}} data=faithful",
)
OBJECTIVE = Kind(
    "objective",
    "objective",
    """# A objective of mine (--help shows this line)
_target_: {target}
beta: 0.5
""",
    '''"""The objective of PACKAGE.mine keeps the contract of objectives."""

import pytest
from PACKAGE.mine import Mine
from taut.testing import check_objective


@pytest.mark.parametrize("k", [1, 2])
def test_an_objective_keeps_its_contract(k):
    check_objective(Mine(), k)
''',
    f"{TRAIN} objective={{name}} k=5",
)
DATA = Kind(
    "data",
    "data",
    """# A data of mine (--help shows this line)
_target_: {target}
n: 1000
noise: 0.1
batch_size: 100
binarisation: none
seed: ${{seed}}
split_seed: 0
""",
    '''"""The data set of PACKAGE.mine keeps the contract of data sets."""

from PACKAGE.mine import Mine
from taut.testing import check_data


def test_a_data_set_keeps_its_contract():
    check_data(Mine)
''',
    f"{TRAIN} data={{name}} likelihood=gaussian",
)
EVIDENCE = Kind(
    "evidence",
    "evidence",
    """# A evidence of mine (--help shows this line)
{name}:
  _target_: {target}
  k: ${{k}}
  size: 10
""",
    '''"""The estimator of PACKAGE.mine keeps the contract of estimators."""

from PACKAGE.mine import Mine
from taut.testing import check_evidence


def test_an_estimator_keeps_its_contract():
    check_evidence(Mine(k=50))
''',
    "taut evaluate trust={package} --config-dir {package}/conf run=outputs/runs/<run> evidence={name}",
)
KINDS = {kind.group: kind for kind in (PRIOR, Q, LIKELIHOOD, OBJECTIVE, DATA, EVIDENCE)}
"""Every kind by its group."""
