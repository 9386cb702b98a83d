"""Mixture of Gaussians."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taut.errors import UserError
from taut.functional import seeding
from taut.joint import Joint
from taut.likelihood.component import Component
from taut.model.base import LatentVariableModel, require
from taut.objective.em import Em
from taut.objective.restarts import best_of
from taut.prior.categorical import Categorical


class MixtureOfGaussians(LatentVariableModel):
    r"""$p(x) = \sum_{c=1}^C \pi_c\, N(x; m_c, \Sigma_c)$: z is a category, a look-up table holds the Gaussians.

    $\log p(x)$ and the posterior are sums over C categories, hence exact. With another likelihood, a mixture of that.

    Args:
        components: Number of categories C, which prior and likelihood share.
        n_init: Number of starts by k-means that EM goes on from until it converges, all at once, before training goes
            on from the best.
        **shell: See :class:`~taut.model.base.LatentVariableModel`.
    """

    def __init__(self, components: int, n_init: int = 1, **shell: Any) -> None:
        super().__init__(**shell)
        self.n_init = n_init
        found = self.joint.prior.z_shape[0]
        if found != components:
            raise UserError(
                f"model.components={components}, but the prior has {found} categories; set model.components only."
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
        require(joint.prior.discrete, "mog", "a categorical z", joint)

    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        super().initialise(x)
        prior, likelihood = self.joint.prior, self.joint.likelihood
        if isinstance(likelihood, Component):
            prior.maximise({"counts": likelihood.counts})
            if not isinstance(self.objective, Em):
                likelihood.counts.fill_(torch.inf)  # a gradient does not tell how many rows a component explains

    def on_train_start(self) -> None:
        super().on_train_start()
        objective = self.objective
        if self.n_init > 1 and self.trainer.global_step == 0 and isinstance(objective, Em):
            seeds = [seeding.key(self.seed, "starts", start) for start in range(self.n_init)]
            rows = getattr(self.trainer, "datamodule").training_rows()  # noqa: B009
            best_of(self.joint, rows.to(self.device), seeds, objective.tolerance)
