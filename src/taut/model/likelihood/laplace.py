"""Laplace likelihood with a network."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Laplace as LaplaceCells

from taut.model.likelihood.per_cell import LocationScale


class Laplace(LocationScale):
    r"""$p(x \mid z) = \prod_i \frac{1}{2 s_i b_i} e^{-|x_i - \mu_i - s_i f_i| / (s_i b_i)}$, $b = b_{\min} + e^g$.

    f is the median of every cell, in units of the training rows ($\mu$ and s are their mean and standard deviation);
    the network gives f and g. Less moved by outliers than a Gaussian.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the heads f and g lie along the first axis of its output.
        min_scale: The floor $b_{\min}$, as a fraction of each coordinate's standard deviation.
    """

    def __init__(
        self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], *, min_scale: float = 0.01
    ) -> None:
        super().__init__(x_shape, latent, decoder, 2, min_scale)

    def standard(self, heads: Float[Tensor, "2 *cells"]) -> LaplaceCells:
        f, g = heads
        return LaplaceCells(f, self.scale(g), validate_args=False)
