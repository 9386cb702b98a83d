r"""Exact $\log p(x)$ and $p(z \mid x)$, for models that have them.

Two families are known: z discrete (a finite sum), and a linear-Gaussian likelihood under a Gaussian or
mixture-of-Gaussians prior (Tipping & Bishop, 1999; Bishop, 2006, section 2.3.3).
"""

from math import log, pi
from typing import NamedTuple

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

from taut.errors import UserError
from taut.functional.bounds import log_sum_exp
from taut.functional.missing import Pattern, patterns
from taut.model.joint import Joint
from taut.model.likelihood.linear_gaussian import LinearGaussian, Whitened


def tractable(joint: Joint) -> bool:
    """Tell whether $p(x)$ and the posterior of this model are known exactly."""
    prior = joint.prior()
    return isinstance(prior, OneHotCategorical) or (
        isinstance(joint.likelihood, LinearGaussian) and _gaussians(prior) is not None
    )


def log_marginal(joint: Joint, x: Float[Tensor, "b *x"]) -> Float[Tensor, " b"]:
    r"""Exact $\log p(x)$ in nats.

    Raises:
        UserError: If this model's $p(x)$ has no closed form.
    """
    return log_marginal_and_posterior(joint, x)[0]


def posterior(joint: Joint, x: Float[Tensor, "b *x"]) -> Distribution:
    r"""The exact $p(z \mid x)$: batch ``(b,)``, event ``z_shape``.

    Raises:
        UserError: If this model's posterior has no closed form.
    """
    return log_marginal_and_posterior(joint, x)[1]


def log_marginal_and_posterior(joint: Joint, x: Float[Tensor, "b *x"]) -> tuple[Float[Tensor, " b"], Distribution]:
    r"""Both at once: they come from one table over a category, or one factorisation."""
    prior = joint.prior()
    if isinstance(prior, OneHotCategorical):
        table = _log_table(joint, prior, x)
        return log_sum_exp(table), OneHotCategorical(logits=table.mT, validate_args=False)
    weights, means, covariances = _linear_gaussian(joint, prior)
    assert isinstance(joint.likelihood, LinearGaussian)
    given = conditioned(joint.likelihood.whitened(x), means, covariances)
    log_joint = weights + given.log_px
    if len(means) == 1:
        gaussian = MultivariateNormal(given.means[:, 0], scale_tril=given.scale_tril[:, 0], validate_args=False)
        return log_joint[:, 0], gaussian
    components = MultivariateNormal(given.means, scale_tril=given.scale_tril, validate_args=False)
    categories = Categorical(logits=log_joint, validate_args=False)
    return log_joint.logsumexp(1), MixtureSameFamily(categories, components, validate_args=False)


def _log_table(joint: Joint, prior: OneHotCategorical, x: Tensor) -> Float[Tensor, "c b"]:
    z = prior.enumerate_support().unsqueeze(1)
    return prior.logits.unsqueeze(-1) + joint.likelihood(z).log_prob(x)


def _gaussians(prior: Distribution) -> tuple[Tensor, Tensor, Tensor] | None:
    """(log-weights [c], means [c, d], covariances [c, d, d]) of a prior that is one Gaussian or a mixture of them."""
    if isinstance(prior, Independent) and isinstance(prior.base_dist, Normal):
        mean, std = prior.mean.double(), prior.stddev.double()
        return mean.new_zeros(1), mean.unsqueeze(0), torch.diag_embed(std.square()).unsqueeze(0)
    if isinstance(prior, MixtureSameFamily) and _gaussians(prior.component_distribution) is not None:
        parts = prior.component_distribution
        # torch has normalised the logits in the precision they came in
        weights = prior.mixture_distribution.logits.double().log_softmax(0)
        return weights, parts.mean.double(), torch.diag_embed(parts.stddev.double().square())
    return None


def _linear_gaussian(joint: Joint, prior: Distribution) -> tuple[Tensor, Tensor, Tensor]:
    gaussians = _gaussians(prior)
    if gaussians is None or not isinstance(joint.likelihood, LinearGaussian):
        raise UserError(
            f"The exact posterior of prior={type(joint.prior).__name__.lower()} with "
            f"likelihood={type(joint.likelihood).__name__.lower()} is not known; it is for a categorical prior, "
            "and for likelihood=linear or factor with prior=normal or mixture. "
            "Choose an amortised q such as q=diagonal."
        )
    return gaussians


class Conditioned(NamedTuple):
    r"""Likelihood of x, and posterior of z, under each of the Gaussians $N(m_c, C_c)$.

    Args:
        log_px: $\log p(x_o \mid c)$, nats.
        means: $E[z \mid x_o, c]$.
        scale_tril: Factors of $\mathrm{Cov}[z \mid x_o, c]$; one for all data where no cell is missing.
    """

    log_px: Float[Tensor, "b c"]
    means: Float[Tensor, "b c d"]
    scale_tril: Float[Tensor, "n c d d"]


def conditioned(x: Whitened, means: Float[Tensor, "c d"], covariances: Float[Tensor, "c d d"]) -> Conditioned:
    """Condition on the observed cells of each datum, those of one mask together."""
    factors, shape = torch.linalg.cholesky(covariances), (len(x.y), len(means))
    one = torch.eye(means.shape[1]).to(means)
    inverse = torch.linalg.solve_triangular(factors, one.expand_as(factors), upper=False).unsqueeze(1)  # [c, 1, d, d]
    # one mask for all: patterns would sort the whole batch to find it
    if not x.x.isnan().any():
        rows, columns = torch.arange(len(x.y), device=x.y.device), torch.arange(x.y.shape[1], device=x.y.device)
        return _solved(x, Pattern(rows.unsqueeze(0), columns.unsqueeze(0), columns[:0].unsqueeze(0)), means, inverse)
    result = Conditioned(*(x.y.new_empty(*shape, *tail) for tail in ((), means.shape[1:], covariances.shape[1:])))
    for pattern in patterns(x.x):
        part, rows = _solved(x, pattern, means, inverse), pattern.rows.flatten()
        result.log_px[rows], result.means[rows] = part.log_px, part.means
        result.scale_tril[rows] = part.scale_tril.repeat_interleave(pattern.rows.shape[1], 0)
    return result


def _solved(x: Whitened, pattern: Pattern, means: Tensor, inverse: Tensor) -> Conditioned:
    r"""For $z = m + \delta$ and $C = R R^\top$: the least squares of $[B; R^{-1}]\, \delta = [y - B m; 0]$, by QR.

    The smallest sum of squares is the quadratic form of $\log N(y; B m, B C B^\top + I)$, and its normal matrix
    $T^\top T$, with T lower triangular, the precision of z. Nothing is subtracted that could cancel, as it does in
    Woodbury's identity, and nothing is squared (Bjorck, 1996, section 2.4). The columns are reversed, for QR has an
    upper triangle to give.
    """
    y = x.y[pattern.rows.unsqueeze(2), pattern.observed.unsqueeze(1)]  # [p, n, o]
    b = x.weight[pattern.observed]  # [p, o, d]
    shape = (len(means), len(b))
    stacked = torch.cat([b.expand(*shape, -1, -1), inverse.expand(*shape, -1, -1)], 2)
    q, upper = torch.linalg.qr(stacked.flip(-1))
    residual = y - (means @ b.mT).movedim(0, 1).unsqueeze(2)  # [c, p, n, o]
    pull = q[..., : b.shape[1], :].mT @ residual.mT
    delta = torch.linalg.solve_triangular(upper, pull, upper=True).flip(-2).mT  # [c, p, n, d]
    squares = (residual - delta @ b.mT).square().sum(-1) + (delta @ inverse.mT).square().sum(-1)
    lower = upper.flip(-1, -2)
    # QR leaves the signs of the diagonal open
    log_det = lower.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) - inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = 0.5 * log(2 * pi) * b.shape[1] + x.log_scale[pattern.observed].sum(-1) + log_det
    log_px = -0.5 * squares - constant.unsqueeze(-1)
    one = torch.eye(means.shape[1]).to(means)
    scale_tril = torch.linalg.solve_triangular(lower, one.expand_as(lower), upper=False)
    # and a factor of a covariance has none below 0
    signs = scale_tril.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return Conditioned(
        log_px.movedim(0, 2).flatten(0, 1),
        (means[:, None, None] + delta).movedim(0, 2).flatten(0, 1),
        (scale_tril * signs).movedim(0, 1),
    )
