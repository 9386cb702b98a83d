r"""Exact $\log p(x)$ and $p(z \mid x)$, for models that have them.

Two families are known: z discrete (a finite sum), and a linear-Gaussian likelihood under a Gaussian or
mixture-of-Gaussians prior (Tipping & Bishop, 1999; Bishop, 2006, section 2.3.3).
"""

from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from taut.bounds import log_sum_exp
from taut.errors import UserError
from taut.holes import filled, observed
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
        return log_marginal_and_posterior(joint, x)[0]
    weights, means, _ = _linear_gaussian(joint, prior)
    return (weights.unsqueeze(-1) + _component_evidence(joint, means, prior, x)).logsumexp(0)


def posterior(joint: Joint, x: Float[Tensor, "b *x"]) -> Distribution:
    r"""The exact $p(z \mid x)$: batch ``(b,)``, event ``z_shape``.

    Raises:
        UserError: If this model's posterior has no closed form.
    """
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        return log_marginal_and_posterior(joint, x)[1]
    weights, means, covariances = _linear_gaussian(joint, prior)
    likelihood = joint.likelihood
    assert isinstance(likelihood, Linear)
    gram, pull = _seen(likelihood, x)
    covariance = torch.linalg.inv(torch.linalg.inv(covariances) + gram)  # [b or 1, c, d, d]
    push = torch.linalg.solve(covariances, means)  # [c, d]
    centre = (covariance @ (pull.unsqueeze(1) + push).unsqueeze(-1)).squeeze(-1)
    factor = torch.linalg.cholesky(covariance).expand(len(x), -1, -1, -1)
    if len(means) == 1:
        return MultivariateNormal(centre[:, 0], scale_tril=factor[:, 0], validate_args=False)
    logits = weights + _component_evidence(joint, means, prior, x).mT
    components = MultivariateNormal(centre, scale_tril=factor, validate_args=False)
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, validate_args=False)


def log_marginal_and_posterior(joint: Joint, x: Float[Tensor, "b *x"]) -> tuple[Float[Tensor, " b"], Distribution]:
    r"""Both at once: a category is scored once for the two of them."""
    prior = joint.prior()
    if not isinstance(prior, OneHotCategorical):
        return log_marginal(joint, x), posterior(joint, x)
    table = _log_table(joint, prior, x)
    return log_sum_exp(table), OneHotCategorical(logits=table.mT, validate_args=False)


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


def _seen(likelihood: Linear, x: Tensor) -> tuple[Float[Tensor, "n 1 d d"], Float[Tensor, "b d"]]:
    r"""$W_o^\top W_o / \sigma^2$ and $W_o^\top x_o / \sigma^2$; the first once where no cell is missing."""
    rows, weight = x.flatten(1) - likelihood.mean, likelihood.weight
    pull = filled(rows) @ weight / likelihood.variance
    if not rows.isnan().any():
        return (weight.mT @ weight / likelihood.variance)[None, None], pull
    squares = (weight.unsqueeze(2) * weight.unsqueeze(1)).flatten(1)
    gram = (observed(rows).to(rows) @ squares).unflatten(1, (1, *2 * weight.shape[1:]))
    return gram / likelihood.variance, pull


def _component_evidence(joint: Joint, means: Tensor, prior: Distribution, x: Tensor) -> Float[Tensor, "c b"]:
    r"""$\log N(x_o; W_o m_c + \mu_o, W_o C_c W_o^\top + \sigma^2 I)$ by Woodbury's identity."""
    _, _, covariances = _linear_gaussian(joint, prior)
    likelihood = joint.likelihood
    assert isinstance(likelihood, Linear)
    noise, (gram, _) = likelihood.variance, _seen(likelihood, x)
    root = torch.linalg.cholesky(covariances)
    rows = x.flatten(1).unsqueeze(1) - likelihood.mean - means @ likelihood.weight.mT  # [b, c, D]
    count, rows = observed(rows).sum(-1), filled(rows)
    capacity = torch.linalg.cholesky(torch.eye(gram.shape[-1]).to(gram) + root.mT @ gram @ root)  # [b or 1, c, d, d]
    pull = root.mT @ (rows @ likelihood.weight / noise).unsqueeze(-1)
    inner = torch.linalg.solve_triangular(capacity, pull, upper=False).squeeze(-1).square().sum(-1)
    log_det = 2 * capacity.diagonal(dim1=-2, dim2=-1).log().sum(-1) + count * noise.log()
    return (-0.5 * (rows.square().sum(-1) / noise - inner + log_det + count * log(2 * pi))).mT
