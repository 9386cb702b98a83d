"""The contracts of pieces, for the tests of your own: each check raises a sentence that names the rule a piece breaks.

>>> from taut.model.prior.normal import Normal
>>> check_prior(Normal(2))

They draw random numbers from a fixed seed, leave the caller's generators alone, and need no pytest. A random mean is
judged so strictly that a right piece is refused about once in a billion checks. Give them a small piece, of few
coordinates: densities are summed or integrated, which takes seconds at most.
"""

from taut.testing.data_sets import check_data
from taut.testing.estimators import check_evidence
from taut.testing.known import Known, gaussian_mixture, linear_gaussian
from taut.testing.likelihoods import check_likelihood
from taut.testing.masks import check_mask
from taut.testing.networks import check_network
from taut.testing.objectives import check_objective
from taut.testing.posteriors import check_q
from taut.testing.priors import check_prior
from taut.testing.rules import ContractError

__all__ = [
    "ContractError",
    "Known",
    "check_data",
    "check_evidence",
    "check_likelihood",
    "check_mask",
    "check_network",
    "check_objective",
    "check_prior",
    "check_q",
    "gaussian_mixture",
    "linear_gaussian",
]
