"""Mixture of Gaussians prior."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from taut.model.prior.base import Prior


class Mixture(Prior):
    r"""$p(z) = \sum_{c=1}^C \pi_c N(z; m_c, \mathrm{diag}\, s_c^2)$: with networks around it, the GMVAE.

    Dilokthanakul et al. (2016); Tomczak & Welling (2018) call it the mixture-of-Gaussians prior.

    Args:
        dim: Number of latent coordinates d.
        components: Number of Gaussians C.
        learn_weights: Learn the weights, or keep them at 1/C.
        spread: Standard deviation of the initial means around 0.
    """

    logits: Tensor

    def __init__(self, dim: int, components: int, *, learn_weights: bool = True, spread: float = 1.0) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.means = nn.Parameter(spread * torch.randn(components, dim))
        self.log_scales = nn.Parameter(torch.zeros(components, dim))
        if learn_weights:
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            self.register_buffer("logits", torch.zeros(components))

    def forward(self) -> MixtureSameFamily:
        components = Independent(Normal(self.means, self.log_scales.exp(), validate_args=False), 1)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)
