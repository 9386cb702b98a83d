"""Variational autoencoder."""

from taut.joint import Joint
from taut.model.base import LatentVariableModel, require


class VAE(LatentVariableModel):
    r"""$p(x) = \int p(z)\, p_\theta(x \mid z)\, dz$ with networks, trained on the ELBO (Kingma & Welling, 2014).

    An infinite mixture of Gaussians (or Bernoullis): z is continuous, and $q_\phi(z \mid x)$ stands in for the
    posterior.
    """

    def check_joint(self, joint: Joint) -> None:
        require(not joint.prior.discrete, "vae", "a continuous z", joint)
