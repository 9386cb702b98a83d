"""The model variants: what each is made of by default, and what it refuses."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional import seeding
from taut.model.exact_inference import tractable
from taut.model.joint import Joint
from taut.model.likelihood.component import Component
from taut.model.likelihood.factor import Factor
from taut.model.likelihood.linear import Linear
from taut.model.prior.categorical import Categorical
from taut.objective.em import Em
from taut.objective.restarts import best_of
from taut.training.module import LatentVariableModel, require
from taut.training.plain_loaders import rows_of

WITHOUT_ONE_CATEGORY = "choose prior=categoricals q=categoricals, or model=mog"


class VAE(LatentVariableModel):
    r"""$p(x) = \int p(z)\, p_\theta(x \mid z)\, dz$ with networks, trained on the ELBO (Kingma & Welling, 2014).

    An infinite mixture of Gaussians (or Bernoullis): z is continuous, and $q_\phi(z \mid x)$ stands in for the
    posterior.
    """

    def check_joint(self, joint: Joint) -> None:
        require(not joint.prior.categorical, "vae", "a z that is not one category", joint, WITHOUT_ONE_CATEGORY)


class IWAE(LatentVariableModel):
    r"""The VAE's model trained on $L_K = E[\log \frac1K \sum_k w_k]$ (Burda, Grosse & Salakhutdinov, 2016).

    The same code as :class:`~taut.training.models.VAE`: the variant is the objective and K.
    """

    def check_joint(self, joint: Joint) -> None:
        require(not joint.prior.categorical, "iwae", "a z that is not one category", joint, WITHOUT_ONE_CATEGORY)


class MixtureOfGaussians(LatentVariableModel):
    r"""$p(x) = \sum_{c=1}^C \pi_c\, N(x; m_c, \Sigma_c)$: z is a category, a look-up table holds the Gaussians.

    $\log p(x)$ and the posterior are sums over C categories, hence exact. With another likelihood, a mixture of that.

    Args:
        components: Number of categories C, which prior and likelihood share.
        n_init: Number of starts by k-means that EM leads to their ends, all at once, before training goes on from the
            best; of a large table first in some of its rows, and in all rows those that may then be the best
            (:mod:`taut.objective.restarts`).
        **shell: See :class:`~taut.training.module.LatentVariableModel`.
    """

    title = "Mixture of Gaussians"

    def __init__(self, components: int, n_init: int = 1, **shell: Any) -> None:
        super().__init__(**shell)
        self.n_init = n_init
        categories = self.joint.prior.z_shape[0]
        if categories != components:
            raise UserError(
                f"model.components={components}, but the prior has {categories} categories; set model.components only."
            )
        if n_init > 1 and not (self._of_gaussians and isinstance(self.objective, Em)):
            raise UserError(
                f"model.n_init={n_init} compares starts by EM of a mixture of Gaussians, which needs "
                "prior=categorical, likelihood=component and objective=em; leave it at 1."
            )

    @property
    def _of_gaussians(self) -> bool:
        return isinstance(self.joint.prior, Categorical) and isinstance(self.joint.likelihood, Component)

    def check_joint(self, joint: Joint) -> None:
        require(joint.prior.categorical, "mog", "a categorical z", joint)

    def initialise(self, x: Float[Tensor, "n *x"], rows: int | None = None) -> None:
        super().initialise(x, rows)
        prior, likelihood = self.joint.prior, self.joint.likelihood
        if isinstance(likelihood, Component):
            prior.maximise({"counts": likelihood.counts})
            likelihood.rows.fill_(rows or len(x))
            if not isinstance(self.objective, Em):
                likelihood.counts.fill_(torch.inf)  # a gradient does not tell how many rows a component explains

    def on_train_start(self) -> None:
        super().on_train_start()
        objective = self.objective
        # a resumed run goes on from its own parameters, not from a new start
        if self.n_init > 1 and self.trainer.global_step == 0 and isinstance(objective, Em):
            seeds = [seeding.key(self.seed, "starts", start) for start in range(self.n_init)]
            best_of(self.joint, self._training_rows().to(self.device), seeds, objective.tolerance)

    def _training_rows(self) -> Float[Tensor, "n *x"]:
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is not None:
            # a slice: of data on the disk the rows, or the reason why not all of them can be had
            return data.training_rows()[:]
        loader: Any = self.trainer.train_dataloader
        # forked, because a loader that shuffles draws its order
        with seeding.forked():
            return torch.cat([rows_of(batch) for batch in loader])


class PPCA(LatentVariableModel):
    r"""$z \sim N(0, I)$ (or a mixture), $x \mid z \sim N(W z + \mu, \sigma^2 I)$ (Tipping & Bishop, 1999).

    $\log p(x) = \log N(x; \mu, W W^\top + \sigma^2 I)$, and the posterior is Gaussian: the anchor that bounds are
    held against. Under ``objective=em`` it starts at the maximum of the likelihood where no cell is missing.
    """

    title = "Probabilistic PCA"

    def check_joint(self, joint: Joint) -> None:
        solvable = isinstance(joint.likelihood, Linear) and tractable(joint)
        require(solvable, "ppca", "a linear likelihood under a Gaussian or mixture prior", joint)


class FA(LatentVariableModel):
    r"""$z \sim N(0, I)$ (or a mixture), $x \mid z \sim N(W z + \mu, \mathrm{diag}\, \psi)$ (Rubin & Thayer, 1982).

    $\log p(x) = \log N(x; \mu, W W^\top + \mathrm{diag}\, \psi)$. Unlike probabilistic PCA, every column has a noise
    of its own, so the fit is the same in every unit of every column.
    """

    title = "Factor analysis"

    def check_joint(self, joint: Joint) -> None:
        solvable = isinstance(joint.likelihood, Factor) and tractable(joint)
        require(solvable, "fa", "likelihood=factor under a Gaussian or mixture prior", joint)
