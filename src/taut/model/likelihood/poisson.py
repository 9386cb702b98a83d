"""Poisson likelihood with a network."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Poisson as PoissonCells

from taut.model.likelihood.per_cell import Counts


class Poisson(Counts):
    r"""$p(x \mid z) = \prod_i \lambda_i^{x_i} e^{-\lambda_i} / x_i!$ with $\lambda_i = m_i e^{f(z)_i}$, for counts.

    m are the means of the training rows. Given z the variance of a count is its mean; where it is larger, take
    :class:`~taut.model.likelihood.negative_binomial.NegativeBinomial`.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, x_shape)``.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__(x_shape, latent, decoder, 1, "poisson")

    def cells(self, heads: Float[Tensor, "1 *cells"]) -> PoissonCells:
        return PoissonCells(self.rate(heads[0]), validate_args=False)
