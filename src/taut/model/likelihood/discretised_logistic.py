"""Discretised logistic likelihood with a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.levels import DiscretisedLogistic as Cells
from taut.functional.missing import column_mean, column_scale
from taut.model.likelihood.of_levels import OfLevels

NARROWEST, WIDEST = -7.0, 5.0
"""Log-scales, in standard deviations of the column, beyond which they stay: slopes grow with 1/s."""


class DiscretisedLogistic(OfLevels):
    r"""Mixtures of logistic densities, collected by levels.

    $$p(x \mid z) = \prod_i \sum_m \pi_m\, \left[\sigma\left(\frac{v_i + \frac12 - \mu_m}{s_m}\right) -
      \sigma\left(\frac{v_i - \frac12 - \mu_m}{s_m}\right)\right], \qquad v_i \text{ the level of } x_i.$$

    A mass on ordered levels, as of grey values, by few numbers for each cell (Kingma et al., 2016; as a mixture,
    Salimans et al., 2017). The lowest and the highest level take the tails. Means and scales are relative to mean and
    standard deviation of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; log-weights, means and log-scales of the components lie
            along the first axis of its output.
        levels: Number of levels L; one for each column; or what grey levels stand for
            (:class:`~taut.model.likelihood.of_levels.OfLevels`).
        components: Logistic densities in the mixture of a cell.
    """

    shift: Tensor
    unit: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        levels: int | Sequence[int] | Mapping[str, Any] | None = None,
        *,
        components: int = 3,
    ) -> None:
        super().__init__(x_shape, latent, decoder, levels, lambda count: 3 * components, "discretised_logistic")
        self.register_buffer("shift", torch.zeros(self.x_shape, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(self.x_shape, dtype=torch.float64))
        with torch.no_grad():
            # apart from each other: components that start alike stay alike
            spread = torch.linspace(-1, 1, components + 2)[1:-1]
            self.offset[components : 2 * components] += spread.view(-1, *[1] * len(self.x_shape))

    def cells(self, heads: Float[Tensor, "h *cells"]) -> Cells:
        weights, mean, log_scale = heads.unflatten(0, (3, -1))
        shift, unit = self.shift.to(heads.dtype), self.unit.to(heads.dtype)
        scale = unit * log_scale.clamp(NARROWEST, WIDEST).exp()
        return Cells(weights.log_softmax(0), shift + unit * mean, scale, self.highest, self.levels)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        v = self.levels.encode(x)
        self.shift.copy_(column_mean(v))
        self.unit.copy_(column_scale(v))
