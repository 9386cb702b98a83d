r"""Exact $\log p(x)$ and $p(z \mid x)$, for models that have them.

Two families are known: z discrete (a finite sum), and a linear-Gaussian likelihood under a Gaussian or
mixture-of-Gaussians prior (Tipping & Bishop, 1999; Bishop, 2006, section 2.3.3).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from taut.bounds import log_sum_exp
from taut.errors import UserError
from taut.joint import Joint
from taut.likelihood.linear import Linear


def tractable(joint: Joint) -> bool:
    """Whether $p(x)$ and the posterior of this model are known exactly."""
    prior = joint.prior()
    return isinstance(prior, OneHotCategorical) or (
        isinstance(joint.likelihood, Linear) and _gaussians(prior) is not None
    )


def log_marginal(joint: Joint, x: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    r"""Exact $\log p(x)$ in nats.

    Raises:
        UserError: If this model's $p(x)$ has no closed form.
    """
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        return log_sum_exp(_log_table(joint, prior, x))
    weights, means, _ = _linear_gaussian(joint, prior)
    return (weights.unsqueeze(-1) + _component_evidence(joint, means, prior, x)).logsumexp(0)


def posterior(joint: Joint, x: Float[Tensor, "b *x"]) -> Distribution:
    r"""The exact $p(z \mid x)$: batch ``(b,)``, event ``z_shape``.

    Raises:
        UserError: If this model's posterior has no closed form.
    """
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        return OneHotCategorical(logits=_log_table(joint, prior, x).mT, validate_args=False)
    weights, means, covariances = _linear_gaussian(joint, prior)
    likelihood = joint.likelihood
    assert isinstance(likelihood, Linear)
    noise = likelihood.variance
    precision = torch.linalg.inv(covariances) + likelihood.weight.mT @ likelihood.weight / noise
    covariance = torch.linalg.inv(precision)
    pull = (x.flatten(1) - likelihood.mean) @ likelihood.weight / noise  # [b, d]
    push = torch.linalg.solve(covariances, means)  # [c, d]
    centre = torch.einsum("cij,bcj->bci", covariance, pull.unsqueeze(1) + push)
    factor = torch.linalg.cholesky(covariance).expand(len(x), -1, -1, -1)
    if len(means) == 1:
        return MultivariateNormal(centre[:, 0], scale_tril=factor[:, 0], validate_args=False)
    logits = weights + _component_evidence(joint, means, prior, x).mT
    components = MultivariateNormal(centre, scale_tril=factor, validate_args=False)
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, validate_args=False)


def _log_table(joint: Joint, prior: OneHotCategorical, x: Tensor) -> Float[Tensor, "c b"]:
    z = prior.enumerate_support().unsqueeze(1)
    return prior.logits.unsqueeze(-1) + joint.likelihood(z).log_prob(x)


def _gaussians(prior: Distribution) -> tuple[Tensor, Tensor, Tensor] | None:
    """(log-weights [c], means [c, d], covariances [c, d, d]) of a prior that is one Gaussian or a mixture of them."""
    if isinstance(prior, Independent) and isinstance(prior.base_dist, Normal):
        return prior.mean.new_zeros(1), prior.mean.unsqueeze(0), torch.diag_embed(prior.variance).unsqueeze(0)
    if isinstance(prior, MixtureSameFamily) and _gaussians(prior.component_distribution) is not None:
        parts = prior.component_distribution
        return prior.mixture_distribution.logits, parts.mean, torch.diag_embed(parts.variance)
    return None


def _linear_gaussian(joint: Joint, prior: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    gaussians = _gaussians(prior)
    if gaussians is None or not isinstance(joint.likelihood, Linear):
        raise UserError(
            f"The exact posterior of prior={type(joint.prior).__name__.lower()} with "
            f"likelihood={type(joint.likelihood).__name__.lower()} is not known; it is for a categorical prior, "
            f"and for "
            "likelihood=linear with prior=normal or mixture. Choose an amortised q such as q=diagonal."
        )
    return gaussians


def _component_evidence(joint: Joint, means: Tensor, prior: Distribution, x: Tensor) -> Float[Tensor, "c b"]:
    _, _, covariances = _linear_gaussian(joint, prior)
    likelihood = joint.likelihood
    assert isinstance(likelihood, Linear)
    factor = likelihood.weight @ torch.linalg.cholesky(covariances)
    marginal = LowRankMultivariateNormal(
        means @ likelihood.weight.mT + likelihood.mean,
        factor,
        likelihood.variance.expand(len(means), len(likelihood.mean)),
        validate_args=False,
    )
    return marginal.log_prob(x.flatten(1).unsqueeze(1)).mT
