"""Importance-weighted autoencoder."""

from taut.joint import Joint
from taut.model.base import LatentVariableModel, require


class IWAE(LatentVariableModel):
    r"""The VAE's model trained on $L_K = E[\log \frac1K \sum_k w_k]$ (Burda, Grosse & Salakhutdinov, 2016).

    The same code as :class:`~taut.model.vae.VAE`: the variant is the objective and K.
    """

    def check_joint(self, joint: Joint) -> None:
        require(not joint.prior.discrete, "iwae", "a continuous z", joint)
