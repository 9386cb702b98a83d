"""The joint p(x, z) = p(z) p(x | z)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.errors import UserError
from taut.model.likelihood.base import Likelihood
from taut.model.prior.base import Prior


class Joint(nn.Module):
    r"""$p(x, z) = p(z)\, p(x \mid z)$; z and its densities are in float64 (see :mod:`taut.functional.precision`).

    Args:
        prior: $p(z)$.
        likelihood: $p(x \mid z)$.

    Raises:
        UserError: If the likelihood is a table and z is no category.
    """

    def __init__(self, prior: Prior, likelihood: Likelihood) -> None:
        super().__init__()
        if likelihood.of_categories and not prior.categorical:
            kind = "binary" if prior.binary else "several of them" if prior.factored else "continuous"
            raise UserError(
                f"likelihood={type(likelihood).__name__.lower()} looks z up in a table, so z must be a category, but "
                f"prior={type(prior).__name__.lower()} makes it {kind}; choose model=mog with prior=categorical, or "
                f"model=vae with likelihood=gaussian."
            )
        self.prior = prior
        self.likelihood = likelihood
        if prior.layered:
            likelihood.seen = prior.layers[0]

    def log_prob(self, x: Float[Tensor, "b *x"], z: Float[Tensor, "k b *z"]) -> Float[Tensor, "k b"]:
        r"""$\log p(x, z)$ in nats."""
        return self.prior().log_prob(z) + self.likelihood(z).log_prob(x)

    @torch.no_grad()
    def sample(self, n: int) -> tuple[Float[Tensor, "n *z"], Float[Tensor, "n *x"]]:
        """N independent pairs (z, x), by ancestral sampling."""
        z = self.prior().sample((n,))
        return z, self.likelihood(z).sample()
