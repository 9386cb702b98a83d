"""Mixture of Gaussians."""

from typing import Any

from taut.errors import UserError
from taut.joint import Joint
from taut.model.base import LatentVariableModel, require


class MixtureOfGaussians(LatentVariableModel):
    r"""$p(x) = \sum_{c=1}^C \pi_c\, N(x; m_c, \Sigma_c)$: z is a category, a look-up table holds the Gaussians.

    $\log p(x)$ and the posterior are sums over C categories, hence exact. With another likelihood, a mixture of that.

    Args:
        components: Number of categories C, which prior and likelihood share.
        **shell: See :class:`~taut.model.base.LatentVariableModel`.
    """

    def __init__(self, components: int, **shell: Any) -> None:
        super().__init__(**shell)
        found = self.joint.prior.z_shape[0]
        if found != components:
            raise UserError(
                f"model.components={components}, but the prior has {found} categories; set model.components only."
            )

    def check_joint(self, joint: Joint) -> None:
        require(joint.prior.discrete, "mog", "a categorical z", joint)
