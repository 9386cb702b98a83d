"""The variational autoencoder and its importance-weighted form as estimators: no config, no files."""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import ClassVar, Self

import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from taut.api.fitting import fitted
from taut.api.model import Model
from taut.config.synonyms import meant
from taut.errors import UserError
from taut.evidence import LogEvidence
from taut.functional.arrays import Array, matrix, whole
from taut.model.joint import Joint
from taut.model.likelihood.base import Likelihood
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.beta import Beta
from taut.model.likelihood.categorical import Categorical as Categories
from taut.model.likelihood.component import Component
from taut.model.likelihood.continuous_bernoulli import ContinuousBernoulli
from taut.model.likelihood.discretised_logistic import DiscretisedLogistic
from taut.model.likelihood.factor import Factor
from taut.model.likelihood.gaussian import Gaussian
from taut.model.likelihood.laplace import Laplace as LaplaceCells
from taut.model.likelihood.linear import Linear
from taut.model.likelihood.mixed import Mixed, families_of
from taut.model.likelihood.negative_binomial import NegativeBinomial
from taut.model.likelihood.poisson import Poisson
from taut.model.likelihood.self_masking import SelfMasking
from taut.model.likelihood.student_t import StudentT as StudentTCells
from taut.model.networks import ACTIVATIONS, MLPDecoder, MLPEncoder
from taut.model.prior.base import Prior
from taut.model.prior.bernoulli import Bernoulli as BernoulliPrior
from taut.model.prior.categorical import Categorical as CategoricalPrior
from taut.model.prior.categoricals import Categoricals as CategoricalsPrior
from taut.model.prior.flow import Flow as FlowPrior
from taut.model.prior.laplace import Laplace
from taut.model.prior.layers import Layers as LayersPrior
from taut.model.prior.mixture import Mixture
from taut.model.prior.normal import Normal
from taut.model.prior.student_t import StudentT as StudentTPrior
from taut.model.prior.uniform import Uniform
from taut.model.prior.vamp import Vamp
from taut.model.q.base import Posterior
from taut.model.q.bernoulli import Bernoulli as BernoulliQ
from taut.model.q.categorical import Categorical
from taut.model.q.categoricals import Categoricals
from taut.model.q.diagonal import Diagonal
from taut.model.q.exact import Exact
from taut.model.q.flow import Flow
from taut.model.q.full import Full
from taut.model.q.ladder import Ladder
from taut.model.q.layers import Layers
from taut.model.q.low_rank import LowRank
from taut.model.q.masked import Masked
from taut.model.q.mixture import Mixture as MixtureOfGaussians
from taut.model.q.prior import Prior as PriorItself
from taut.model.q.student_t import StudentT
from taut.model.q.uniform import Uniform as UniformQ
from taut.objective.base import Objective
from taut.objective.elbo import Elbo
from taut.objective.iwae import Iwae
from taut.training.models import IWAE as IWAEModule
from taut.training.models import VAE as VAEModule
from taut.training.module import LatentVariableModel


def _without_decoder(kind: Callable[..., Likelihood]) -> Callable[..., Likelihood]:
    """A likelihood that has no network, called as those that have one."""

    def made(x_shape: Sequence[int], latent: int, decoder: object) -> Likelihood:
        del decoder
        return kind(x_shape, latent)

    return made


def _without_encoder(kind: Callable[..., Posterior]) -> Callable[..., Posterior]:
    """A q that has no network, called as those that have one."""

    def made(joint: Joint, x_shape: Sequence[int], encoder: object) -> Posterior:
        del encoder
        return kind(joint, x_shape)

    return made


LATENT_DIM = 10
"""Latent coordinates where nothing is said of them."""
K_SCORE = 1000
"""Importance samples behind ``score``."""

PRIORS: Mapping[str, Callable[[int, Sequence[int]], Prior]] = {
    "normal": lambda dim, x_shape: Normal(dim),
    "mixture": lambda dim, x_shape: Mixture(dim, 10),
    "uniform": lambda dim, x_shape: Uniform(dim),
    "vamp": lambda dim, x_shape: Vamp(dim, 50, x_shape),
    "laplace": lambda dim, x_shape: Laplace(dim),
    "student_t": lambda dim, x_shape: StudentTPrior(dim),
    "flow": lambda dim, x_shape: FlowPrior(dim),
    "layers": lambda dim, x_shape: LayersPrior([dim, -(-dim // 2)]),
    "bernoulli": lambda dim, x_shape: BernoulliPrior(dim),
    "categoricals": lambda dim, x_shape: CategoricalsPrior(dim, 10),
    "categorical": lambda dim, x_shape: CategoricalPrior(10),
}
LIKELIHOODS: Mapping[str, Callable[..., Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "laplace": LaplaceCells,
    "student_t": StudentTCells,
    "beta": Beta,
    "continuous_bernoulli": ContinuousBernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "categorical": Categories,
    "discretised_logistic": DiscretisedLogistic,
    "mixed": Mixed,
    "self_masking": SelfMasking,
    "component": _without_decoder(Component),
    "linear": _without_decoder(Linear),
    "factor": _without_decoder(Factor),
}
POSTERIORS: Mapping[str, Callable[..., Posterior]] = {
    "diagonal": Diagonal,
    "full": Full,
    "low_rank": LowRank,
    "student_t": StudentT,
    "mixture": MixtureOfGaussians,
    "flow": Flow,
    "masked": Masked,
    "layers": Layers,
    "ladder": Ladder,
    "bernoulli": BernoulliQ,
    "categoricals": Categoricals,
    "categorical": Categorical,
    "exact": _without_encoder(Exact),
    "prior": _without_encoder(PriorItself),
    "uniform": _without_encoder(UniformQ),
}


class VAE(TransformerMixin, BaseEstimator):
    r"""A variational autoencoder (Kingma & Welling, 2014): $p(x) = \int N(z; 0, I)\, p_\theta(x \mid z)\, dz$.

    Trained on the ELBO with Adam for ``max_epochs`` passes; the last weights are kept. NaN is a missing cell, and the
    bound then that of the observed ones. Nothing is written, and nothing of the process is another one afterwards.

    Args:
        latent_dim: Number d of latent coordinates.
        hidden: Widths of the hidden layers of encoder and decoder.
        likelihood: A word of the command line, ``bernoulli`` for x of zeros and ones, ``gaussian`` with a diagonal
            covariance that depends on z, ``poisson`` and so on, with the same defaults; a
            :class:`~taut.model.likelihood.base.Likelihood`; or what makes one from the shape of x, the number of
            latent coordinates and a decoder, as ``functools.partial(Categorical, levels=5)``.
        prior: A word of the command line, ``normal``, ``mixture``, ``vamp``, ``bernoulli`` and so on, with the same
            defaults (``layers`` has latent_dim and half as many coordinates), or a
            :class:`~taut.model.prior.base.Prior`.
        q: A word of the command line, ``diagonal``, ``full``, ``flow``, ``masked`` (which sees the missing cells) and
            so on, or what makes a :class:`~taut.model.q.base.Posterior` from a joint and the shape of x.
        layers: Coordinates of several stochastic layers of z, ``[100, 50]``, in the place of latent_dim and prior; q
            is then ``layers`` where it is ``diagonal``.
        k: Draws of each datum in a step.
        activation: Of the hidden layers: tanh, relu, elu, gelu, silu or softplus.
        max_epochs: Passes over the data.
        batch_size: Rows of a step.
        lr: Learning rate of Adam.
        seed: Seed of the first weights, of the order and of all noise.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        progress: Show a bar.

    Attributes:
        model_: The trained :class:`~taut.api.model.Model`.

    Raises:
        UserError: If an argument is out of range, the parts do not go together, or the data are not for the likelihood.
        RunError: If training diverged.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).integers(0, 2, (60, 5))
    >>> vae = VAE(latent_dim=2, hidden=(8,), likelihood="bernoulli", max_epochs=2).fit(x)
    >>> vae.transform(x).shape, vae.sample(3).shape
    ((60, 2), (3, 5))
    >>> vae.score(x) < 0
    True
    """

    _module: ClassVar[type[LatentVariableModel]] = VAEModule
    _objective: ClassVar[type[Objective]] = Elbo

    def __init__(
        self,
        latent_dim: int = LATENT_DIM,
        hidden: Sequence[int] = (200, 200),
        likelihood: str | Likelihood | Callable[..., Likelihood] = "bernoulli",
        *,
        prior: str | Prior = "normal",
        q: str | Callable[[Joint, Sequence[int]], Posterior] = "diagonal",
        layers: Sequence[int] | None = None,
        k: int = 1,
        activation: str = "tanh",
        max_epochs: int = 50,
        batch_size: int = 100,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        # as given and unchecked: scikit-learn clones estimators by their arguments
        self.latent_dim, self.hidden, self.activation = latent_dim, hidden, activation
        self.likelihood, self.prior, self.q, self.layers, self.k = likelihood, prior, q, layers, k
        self.max_epochs, self.batch_size, self.lr, self.seed = max_epochs, batch_size, lr, seed
        self.device, self.progress = device, progress

    def fit(self, x: Array, y: object = None) -> Self:
        """Train on x, shape ``[n, *x_shape]``; y is there for pipelines and not looked at."""
        del y
        self._refuse_arguments()
        self.model_ = fitted(
            partial(self._built, families=self._families(x)),
            x,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            seed=self.seed,
            device=self.device,
            progress=self.progress,
        )
        self.n_features_in_ = math.prod(self.model_.x_shape)
        return self

    def score(self, x: Array, y: object = None) -> float:
        r"""The mean over the data of $L_K$ with K = 1000, in nats per datum: a lower bound of the mean $\log p(x)$."""
        del y
        return self.log_evidence(x, k=K_SCORE).mean

    def score_samples(self, x: Array) -> Array:
        r"""$L_K$ of each datum with K = 1000, in nats: on average a lower bound of its $\log p(x)$."""
        return self._fitted.score_samples(x, k=K_SCORE, seed=self.seed)

    def log_evidence(self, x: Array, *, k: int = 5000) -> LogEvidence:
        """Kind, value, errors and diagnostics: see :meth:`taut.api.model.Model.log_evidence`."""
        return self._fitted.log_evidence(x, k=k, seed=self.seed)

    def transform(self, x: Array) -> Array:
        r"""The posterior means $E_q[z \mid x]$, shape ``[n, latent_dim]``."""
        return self._fitted.encode(x)

    def inverse_transform(self, z: Array) -> Array:
        r"""The means $E[x \mid z]$, shape ``[n, *x_shape]``."""
        return self._fitted.decode(z)

    def reconstruct(self, x: Array) -> Array:
        """The means of x at the posterior means of z."""
        return self._fitted.reconstruct(x)

    def sample(self, n: int = 1, *, seed: int | None = None) -> Array:
        """Draws of p(x), of the kind of what it was trained on; with the estimator's seed if none is given."""
        return self._fitted.sample(n, seed=self.seed if seed is None else seed)

    @property
    def _fitted(self) -> Model:
        check_is_fitted(self)
        return self.model_

    def _refuse_arguments(self) -> None:
        for name in ("latent_dim", "k", "max_epochs", "batch_size"):
            whole(name, getattr(self, name))
        whole("seed", self.seed, 0)
        for name in ("hidden", "layers"):
            for width in getattr(self, name) or ():
                whole(name, width)
        self._refuse_beside_layers()
        if not self.lr > 0:
            raise UserError(f"lr must be above 0, got {self.lr!r}.")
        known: dict[str, Collection[str]] = {
            "activation": ACTIVATIONS,
            "prior": PRIORS,
            "likelihood": LIKELIHOODS,
            "q": POSTERIORS,
        }
        for name, choices in known.items():
            value = getattr(self, name)
            if isinstance(value, str) and value not in choices:
                raise UserError(f"{name}={value!r} is not known; {meant(name, value, choices)}")

    def _refuse_beside_layers(self) -> None:
        if self.layers is None:
            return
        if not len(self.layers):
            raise UserError("layers=[] must hold the coordinates of one layer or more.")
        if self.latent_dim != LATENT_DIM:
            raise UserError(
                f"latent_dim={self.latent_dim} and layers={list(self.layers)} both say how many coordinates z has; "
                "leave one of them out."
            )
        if self.prior not in ("normal", "layers"):
            raise UserError(
                f"layers={list(self.layers)} is a prior of several layers, and prior={self.prior!r} another one; leave "
                "one of them out."
            )

    def _families(self, x: Array) -> dict[str, str] | None:
        """The family of each column of a table, chosen by its values."""
        if self.likelihood != "mixed":
            return None
        names = list(x.columns) if hasattr(x, "columns") else None  # pyright: ignore
        return families_of([matrix(x)], None, names)

    def _built(self, x_shape: tuple[int, ...], families: dict[str, str] | None) -> LatentVariableModel:
        networks = {"hidden": tuple(self.hidden), "activation": self.activation}
        encoder, decoder = partial(MLPEncoder, **networks), partial(MLPDecoder, **networks)
        # copies: fit learns, and an argument stays what it was
        prior = self._prior(x_shape)
        joint = Joint(prior, self._likelihood(x_shape, prior, decoder, families))
        name = "layers" if self.layers is not None and self.q == "diagonal" else self.q
        q = partial(POSTERIORS[name], encoder=encoder) if isinstance(name, str) else name
        posterior = q(joint, x_shape)
        prior.attach(posterior)
        adam = partial(torch.optim.Adam, lr=self.lr, fused=True)
        sizes = {"k": self.k, "k_eval": self.k, "k_test": self.k, "seed": self.seed}
        return self._module(joint, posterior, self._objective(), adam, None, **sizes)

    def _prior(self, x_shape: tuple[int, ...]) -> Prior:
        if self.layers is not None:
            return LayersPrior(self.layers)
        return PRIORS[self.prior](self.latent_dim, x_shape) if isinstance(self.prior, str) else deepcopy(self.prior)

    def _likelihood(
        self,
        x_shape: tuple[int, ...],
        prior: Prior,
        decoder: Callable[..., nn.Module],
        families: dict[str, str] | None,
    ) -> Likelihood:
        if isinstance(self.likelihood, Likelihood):
            return deepcopy(self.likelihood)
        made = LIKELIHOODS[self.likelihood] if isinstance(self.likelihood, str) else self.likelihood
        further = {} if families is None else {"families": families}
        return made(x_shape, prior.layers[0], decoder, **further)


class IWAE(VAE):
    r"""The importance-weighted autoencoder: the same model, trained on $L_K$ (Burda, Grosse & Salakhutdinov, 2016).

    Arguments as for :class:`VAE`; ``k`` is the K of the bound.

    >>> IWAE(latent_dim=2, k=5)
    IWAE(k=5, latent_dim=2)
    """

    _module: ClassVar[type[LatentVariableModel]] = IWAEModule
    _objective: ClassVar[type[Objective]] = Iwae

    def __init__(
        self,
        latent_dim: int = LATENT_DIM,
        hidden: Sequence[int] = (200, 200),
        likelihood: str | Likelihood | Callable[..., Likelihood] = "bernoulli",
        *,
        prior: str | Prior = "normal",
        q: str | Callable[[Joint, Sequence[int]], Posterior] = "diagonal",
        layers: Sequence[int] | None = None,
        k: int = 50,
        activation: str = "tanh",
        max_epochs: int = 50,
        batch_size: int = 100,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        # written out: scikit-learn reads the arguments of an estimator from its own constructor
        super().__init__(
            latent_dim,
            hidden,
            likelihood,
            prior=prior,
            q=q,
            layers=layers,
            k=k,
            activation=activation,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            device=device,
            progress=progress,
        )
