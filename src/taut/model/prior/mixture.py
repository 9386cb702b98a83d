"""Mixture of Gaussians prior."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from taut.errors import UserError
from taut.model.prior.base import Prior

ROWS = 2**12
"""Rows that are encoded at once."""


class Mixture(Prior):
    r"""$p(z) = \sum_{c=1}^C \pi_c N(z; m_c, \mathrm{diag}\, s_c^2)$: with networks around it, the GMVAE.

    Dilokthanakul et al. (2016); Tomczak & Welling (2018) call it the mixture-of-Gaussians prior.

    Args:
        dim: Number of latent coordinates d.
        components: Number of Gaussians C.
        learn_weights: Learn the weights, or keep them at 1/C.
        spread: Standard deviation of the initial means around 0.
        init: Start at means around 0 (``normal``), or at the clusters that k-means finds among z of the training rows,
            one drawn from q for each, with their weights, means and standard deviations (``kmeans``).
    """

    logits: Tensor

    def __init__(
        self,
        dim: int,
        components: int,
        *,
        learn_weights: bool = True,
        spread: float = 1.0,
        init: Literal["normal", "kmeans"] = "normal",
    ) -> None:
        super().__init__()
        self.init = init
        self.z_shape = (dim,)
        self.means = nn.Parameter(spread * torch.randn(components, dim))
        self.log_scales = nn.Parameter(torch.zeros(components, dim))
        if learn_weights:
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            self.register_buffer("logits", torch.zeros(components))

    def attach(self, q: Callable[[Tensor], Distribution]) -> None:
        self._q = (q,)  # inside a tuple, so that q's parameters stay registered in one place only

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        if self.init == "kmeans":
            self._start_at_clusters(x)

    def _start_at_clusters(self, x: Float[Tensor, "n *x"]) -> None:
        # here, where it is needed: a prior has no other use for the likelihoods
        from taut.model.likelihood.component import clusters

        count = len(self.means)
        if len(x) < count:
            raise UserError(
                f"prior.components={count} is more than the {len(x)} training rows, and prior.init=kmeans needs a row "
                "for each; choose fewer components, or prior.init=normal."
            )
        z = torch.cat([self._q[0](rows).sample() for rows in x.split(ROWS)]).double()
        # scikit-learn has a generator of its own: torch's gives it the seed, so that one seed rules both
        labels = clusters(z, count, int(torch.randint(2**31, ())), tries=3)
        member = torch.nn.functional.one_hot(labels, count).to(z)
        sizes = member.sum(0)
        means = member.mT @ z / sizes.clamp_min(1).unsqueeze(-1)
        deviations = z - means[labels]
        squares = member.mT @ deviations.square()
        # a cluster of one row has no deviation: it takes that within all clusters
        own = (squares / sizes.clamp_min(1).unsqueeze(-1)).sqrt()
        common = (squares.sum(0) / len(z)).sqrt()
        scales = torch.where((sizes > 1).unsqueeze(-1), own, common).clamp_min(torch.finfo(self.means.dtype).eps)
        self.means.copy_(means)
        self.log_scales.copy_(scales.log())
        if isinstance(self.logits, nn.Parameter):
            self.logits.copy_(sizes.clamp_min(1).div(len(z)).log())

    def forward(self) -> MixtureSameFamily:
        components = Independent(Normal(self.means, self.log_scales.exp(), validate_args=False), 1)
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, components, validate_args=False)
