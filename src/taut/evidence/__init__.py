"""Estimators of log p(x), for any ``log_joint(x, z)`` and ``q(x)``; each says what kind of number it gives.

>>> import torch
>>> from torch.distributions import Independent, Normal
>>> prior = Independent(Normal(torch.zeros(1), 1.0), 1)
>>> log_joint = lambda x, z: prior.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1)
>>> target = Target(log_joint, q=lambda x: Independent(Normal(x / 2, 0.8), 1), prior=prior)
>>> x = torch.tensor([[0.3], [1.0]])
>>> Exact()(target, x).value.sub(Normal(0.0, 2**0.5).log_prob(x[:, 0])).abs().max() < 1e-4
tensor(True)
>>> Importance(k=1000)(target, x).kind
'lower'
"""

from taut.evidence.ais import AIS
from taut.evidence.base import Evidence
from taut.evidence.bdmc import BDMC
from taut.evidence.exact import Exact
from taut.evidence.importance import Importance, elbo
from taut.evidence.jackknife import Jackknife
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.modes import Modes
from taut.evidence.naive import Naive
from taut.evidence.rows import Rows
from taut.evidence.struski import Struski
from taut.evidence.sumo import Sumo
from taut.evidence.target import Target
from taut.evidence.u_k import UK
from taut.evidence.uniform import Uniform

__all__ = [
    "AIS",
    "BDMC",
    "UK",
    "Evidence",
    "Exact",
    "Importance",
    "Jackknife",
    "Kind",
    "LogEvidence",
    "Modes",
    "Naive",
    "Rows",
    "Struski",
    "Sumo",
    "Target",
    "Uniform",
    "elbo",
]
