"""scikit-learn's mixtures of Gaussians and factor analysis: log p(x) and the posterior are known exactly."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, OneHotCategorical

from taut.adapters.base import Adapter, Subject, checked
from taut.adapters.proposal import family_of
from taut.errors import UserError
from taut.evidence.target import Target


class Mixture(Adapter):
    """A fitted ``GaussianMixture``, with its own posterior as q.

    Args:
        model: The estimator.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.name = _fitted(model, "weights_"), type(model).__name__

    def subject(self, x: Tensor) -> Subject:
        means, factors = _double(self.model.means_), self._factors()
        _refuse_columns(x, means.shape[1])
        prior = OneHotCategorical(_double(self.model.weights_), validate_args=False)
        components = MultivariateNormal(means, scale_tril=factors, validate_args=False)

        def posterior(x: Tensor) -> Distribution:
            logits = prior.logits + components.log_prob(x.double().unsqueeze(1))
            return OneHotCategorical(logits=logits, validate_args=False)

        def given(z: Tensor) -> Distribution:
            chosen = z.argmax(-1)
            return MultivariateNormal(means[chosen], scale_tril=factors[chosen], validate_args=False)

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            return prior.log_prob(z) + given(z).log_prob(x.double())

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            z = prior.sample(torch.Size([n]))
            return z, given(z).sample().to(x.dtype)

        def exact(x: Tensor) -> Tensor:
            return (prior.logits + components.log_prob(x.double().unsqueeze(1))).logsumexp(1)

        return checked(Subject(Target(log_joint, posterior, prior, exact, simulate, posterior=True)), x)

    def _factors(self) -> Tensor:
        """Factors of the covariances, ``[c, d, d]``, whatever the type they are kept as."""
        kept, kind = _double(self.model.covariances_), self.model.covariance_type
        c, d = self.model.means_.shape
        if kind in ("spherical", "diag"):
            return torch.diag_embed(kept.reshape(c, -1).expand(c, d).sqrt())
        return torch.linalg.cholesky(kept.expand(c, d, d))


class Factors(Adapter):
    """A fitted ``FactorAnalysis``, with its own posterior as q.

    Args:
        model: The estimator.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.name = _fitted(model, "components_"), type(model).__name__

    def subject(self, x: Tensor) -> Subject:
        middle, weight, noise = map(_double, (self.model.mean_, self.model.components_, self.model.noise_variance_))
        _refuse_columns(x, len(middle))
        d = len(weight)
        zero = weight.new_zeros(d)
        prior = Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1)
        factor = torch.linalg.cholesky(torch.linalg.inv(torch.eye(d).double() + (weight / noise) @ weight.T))
        marginal = MultivariateNormal(middle, weight.T @ weight + noise.diag(), validate_args=False)

        def posterior(x: Tensor) -> Distribution:
            mean = (x.double() - middle) / noise @ weight.T @ (factor @ factor.T)
            return MultivariateNormal(mean, scale_tril=factor.expand(len(x), d, d), validate_args=False)

        def given(z: Tensor) -> Distribution:
            return Independent(Normal(middle + z @ weight, noise.sqrt(), validate_args=False), 1, validate_args=False)

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            return prior.log_prob(z) + given(z).log_prob(x.double())

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            z = prior.sample(torch.Size([n]))
            return z, given(z).sample().to(x.dtype)

        target = Target(log_joint, posterior, prior, lambda x: marginal.log_prob(x.double()), simulate, posterior=True)
        return checked(Subject(target, family_of(posterior, x)), x)


def adapted(model: Any) -> Adapter | None:
    """The adapter of an estimator, if it is one of these."""
    from sklearn.decomposition import FactorAnalysis
    from sklearn.mixture import GaussianMixture

    if isinstance(model, GaussianMixture):
        return Mixture(model)
    return Factors(model) if isinstance(model, FactorAnalysis) else None


def _fitted(model: Any, attribute: str) -> Any:
    if not hasattr(model, attribute):
        raise UserError(f"The {type(model).__name__} has not been fitted; call its fit(x) first.")
    return model


def _double(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _refuse_columns(x: Tensor, columns: int) -> None:
    if x.shape[1:] != (columns,):
        raise UserError(f"x has rows of shape {list(x.shape[1:])}, and the model was fitted to {columns} columns.")
