"""Negative binomial likelihood with a network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import NegativeBinomial as NegativeBinomialCells

from taut.functional.missing import column_scale
from taut.model.likelihood.per_cell import MOST, Counts


class NegativeBinomial(Counts):
    r"""Negative binomial cells, for counts that vary more than Poisson's.

    $$p(x \mid z) = \prod_i \frac{\Gamma(x_i + r_i)}{x_i!\, \Gamma(r_i)}
      \frac{r_i^{r_i} \lambda_i^{x_i}}{(r_i + \lambda_i)^{r_i + x_i}}.$$

    The mean is $\lambda_i = m_i e^{f(z)_i}$, m the means of the training rows, and the variance $\lambda_i +
    \lambda_i^2 / r_i$ with $r_i = e^{g(z)_i}$: Poisson's as r grows (a Poisson count whose rate has a Gamma density).

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the heads f and g lie along the first axis of its output.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__(x_shape, latent, decoder, 2, "negative_binomial")

    def cells(self, heads: Float[Tensor, "2 *cells"]) -> NegativeBinomialCells:
        f, g = heads
        log_r = g.double().clamp(-MOST, MOST)
        return NegativeBinomialCells(log_r.exp(), logits=self.rate(f).log() - log_r, validate_args=False)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        super().initialise(x)
        # by moments; a column that varies no more than Poisson's starts near it
        beyond = (column_scale(x).square() - self.unit).clamp_min(1e-3 * self.unit)
        self.offset[1].copy_((self.unit.square() / beyond).log().clamp(-5, 5))
