"""The mixture of Gaussians as an estimator of scikit-learn."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import math
import warnings
from dataclasses import replace
from numbers import Real
from typing import Any, Literal, Self, cast, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from taut.api.fitting import fitted, in_python
from taut.completion.imputer import column_names, refuse_unlearnable, validated
from taut.errors import UserError
from taut.evidence import LogEvidence
from taut.functional.arrays import Array, Kind, whole
from taut.model.joint import Joint
from taut.model.likelihood.component import Component, Covariance
from taut.model.prior.categorical import Categorical
from taut.model.q.exact import Exact
from taut.objective.em import Em
from taut.training.models import MixtureOfGaussians

CovarianceType = Literal["full", "tied", "diag", "spherical"]
COVARIANCES: dict[str, Covariance] = {"full": "full", "tied": "tied", "diag": "diagonal", "spherical": "spherical"}


class GaussianMixture(DensityMixin, BaseEstimator):
    r"""$p(x) = \sum_{c=1}^C \pi_c\, N(x; m_c, \Sigma_c)$ by EM (Dempster, Laird & Rubin, 1977), as scikit-learn's.

    NaN is a missing cell: EM then sees the observed ones alone, and every score is that of $p(x_{obs})$ (Ghahramani &
    Jordan, 1994). Nothing depends on the units of the columns. ``log p(x)`` is exact.

    Args:
        n_components: Number of Gaussians C.
        covariance_type: ``full``, ``tied`` (one full covariance of all components), ``diag`` or ``spherical``.
        tol: EM has converged where an iteration changes the mean of $\log p(x)$ by less, in nats.
        n_init: Number of starts by k-means, of which the best is kept once EM has led them to their ends: of a large
            table first in some of its rows, and in all rows those that may then be the best.
        max_iter: Iterations, at most.
        min_variance: Floor of every variance, as a fraction of that of the columns.
        seed: Seed of the starts, and of ``sample``.

    Attributes:
        weights_: The weights $\pi_c$, shape ``[C]``.
        means_: The means, ``[C, D]``.
        covariances_: The covariances, in squared units of x: ``[C, D, D]``; for ``tied`` the one that all
            share, ``[D, D]``; for ``diag`` their diagonals, ``[C, D]``; for ``spherical`` one number each, ``[C]``.
        converged_: Whether EM has converged.
        n_iter_: Iterations made, from the best start on.
        lower_bound_: Mean of $\log p(x)$ over the training rows, nats.
        limits_: Sentences about what holds the likelihood bounded: floors that bind, components of too few rows.
        model_: The :class:`~taut.api.model.Model`.

    Raises:
        UserError: If an argument is out of range, or a column is observed in no row.

    >>> x = [[0.0], [1.0], [10.0], [11.0], [12.0]]
    >>> gm = GaussianMixture(2).fit(x)
    >>> sorted(gm.means_[:, 0].round(1).tolist())
    [0.5, 11.0]
    >>> gm.predict([[0.0], [12.0]]).tolist() == gm.predict([[1.0], [11.0]]).tolist()
    True
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
        tol: float = 1e-6,
        n_init: int = 1,
        max_iter: int = 1000,
        min_variance: float = 1e-14,
        seed: int = 0,
    ) -> None:
        # as given and unchecked: scikit-learn clones estimators by their arguments
        self.n_components, self.n_init, self.max_iter, self.seed = n_components, n_init, max_iter, seed
        self.covariance_type: CovarianceType = covariance_type
        self.tol, self.min_variance = tol, min_variance

    def fit(self, X: Array, y: object = None) -> Self:
        """Learn the mixture from the rows of X; y is there for pipelines and not looked at."""
        del y
        self._refuse_arguments()
        x = validated(self, X, reset=True, least=max(2, self.n_components))
        rows = x.astype(np.float64)
        refuse_unlearnable(rows, column_names(X))
        self.model_ = fitted(
            self._built,
            rows,
            batch_size=None,
            max_epochs=self.max_iter,
            seed=self.seed,
            double=True,
        )
        self.model_.kind = replace(Kind.of(X), index=None)
        self._read(x)
        if not self.converged_:
            warnings.warn(
                f"EM has not converged in {self.n_iter_} iterations; raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Array) -> Any:
        """The most probable component of each row: an array of integers, or a tensor."""
        numbers = self._probabilities(X).argmax(1)
        return numbers.to(X.device) if isinstance(X, Tensor) else numbers.numpy()

    def fit_predict(self, X: Array, y: object = None) -> Any:
        """Learn the mixture, and give the most probable component of each row."""
        return self.fit(X, y).predict(X)

    def predict_proba(self, X: Array) -> Array:
        r"""$p(c \mid x)$, shape ``[n, C]``."""
        return Kind.of(X).restored(self._probabilities(X), names="component")

    def score_samples(self, X: Array) -> Array:
        r"""$\log p(x)$ of each row, in nats: of its observed cells."""
        return Kind.of(X).restored(self.log_evidence(X).value, names="log_px")

    def score(  # pyright: ignore[reportIncompatibleMethodOverride] (the mixin's gives nothing)
        self, X: Array, y: object = None
    ) -> float:
        r"""The mean over the rows of $\log p(x)$, in nats."""
        del y
        return self.log_evidence(X).mean

    def log_evidence(self, X: Array) -> LogEvidence:
        """Kind (exact), value and errors of each row: see :meth:`taut.api.model.Model.log_evidence`."""
        check_is_fitted(self)
        return self.model_.log_evidence(self._rows(X))

    def sample(self, n_samples: int = 1) -> tuple[Array, np.ndarray]:
        """Rows drawn from the mixture, of the kind of what it was fitted on, and the component of each."""
        check_is_fitted(self)
        z, x = self.model_.draw(n_samples, self.seed)
        return self.model_.kind.restored(x), z.argmax(1).cpu().numpy()

    def bic(self, X: Array) -> float:
        r"""$-2 \sum_n \log p(x_n) + p \log n$ with p free parameters (Schwarz, 1978); lower is better."""
        n = len(X)
        return -2 * n * self.score(X) + self._free * math.log(n)

    def aic(self, X: Array) -> float:
        r"""$-2 \sum_n \log p(x_n) + 2 p$ (Akaike, 1974); lower is better."""
        return -2 * len(X) * self.score(X) + 2 * self._free

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _built(self, x_shape: tuple[int, ...]) -> MixtureOfGaussians:
        likelihood = Component(
            x_shape, self.n_components, covariance=COVARIANCES[self.covariance_type], min_variance=self.min_variance
        )
        joint = Joint(Categorical(self.n_components), likelihood)
        shell = {"k": 1, "k_eval": 1, "k_test": 1, "seed": self.seed, "optimizer": torch.optim.SGD, "scheduler": None}
        objective = Em(tolerance=self.tol)
        q = Exact(joint, x_shape)
        return MixtureOfGaussians(self.n_components, self.n_init, joint=joint, q=q, objective=objective, **shell)

    def _read(self, x: np.ndarray) -> None:
        """Set what scikit-learn's mixture has under these names."""
        module = self.model_.module
        likelihood, prior = cast(Component, module.joint.likelihood), cast(Categorical, module.joint.prior)
        self.weights_ = prior.probs.double().numpy()
        self.means_ = likelihood.means.double().numpy()
        self.covariances_ = self._covariances(likelihood)
        self.converged_, self.n_iter_ = bool(module.objective.converged), module.trainer.current_epoch
        self.limits_ = [in_python(sentence) for sentence in likelihood.limits(torch.empty(0))]
        self.lower_bound_ = self.model_.log_evidence(x).mean

    def _covariances(self, likelihood: Component) -> np.ndarray:
        covariances = likelihood.covariances().double()
        if self.covariance_type == "full":
            return covariances.numpy()
        if self.covariance_type == "tied":
            return covariances[0].numpy()
        diagonals = covariances.diagonal(dim1=-2, dim2=-1).numpy()
        return diagonals if self.covariance_type == "diag" else diagonals[:, 0]  # all columns have the same

    def _probabilities(self, X: Array) -> Tensor:
        check_is_fitted(self)
        return cast(Tensor, self.model_.encode(torch.from_numpy(self._rows(X))))

    def _rows(self, X: Array) -> np.ndarray:
        return validated(self, X, reset=False).astype(np.float64)

    @property
    def _free(self) -> int:
        """Number of free parameters."""
        check_is_fitted(self)
        joint = self.model_.module.joint
        return sum(piece.degrees_of_freedom or 0 for piece in (joint.prior, joint.likelihood))

    def _refuse_arguments(self) -> None:
        for name, least in (("n_components", 1), ("n_init", 1), ("max_iter", 1), ("seed", 0)):
            whole(name, getattr(self, name), least)
        for name in ("tol", "min_variance"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not float(value) > 0:
                raise UserError(f"{name}={value!r} must be a number above 0.")
        if self.covariance_type not in get_args(CovarianceType):
            raise UserError(
                f"covariance_type={self.covariance_type!r} is not known; choose {', '.join(get_args(CovarianceType))}."
            )
