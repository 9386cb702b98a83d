"""A likelihood for columns whose tail is longer above than below."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Gumbel as GumbelCells

from taut.distributions.cells import Cells
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood


class Gumbel(Likelihood):
    r"""$p(x \mid z) = \prod_i \mathrm{Gumbel}(x_i; \mu_i + s_i f(z)_i,\ s_i (b_{\min} + e^{g(z)_i}))$.

    $\mu$ and s are the mean and the standard deviation of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the heads f and g lie along the first axis of its output,
            which is twice as long as that of x.
        min_scale: The floor $b_{\min}$, as a fraction of each coordinate's standard deviation.
    """

    shift: Tensor
    unit: Tensor

    def __init__(
        self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], min_scale: float = 0.01
    ) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.min_scale = min_scale
        first, *others = self.x_shape
        self.decoder = decoder_of(decoder, latent, (2 * first, *others))  # any torch.nn.Module, tried before training
        self.register_buffer("shift", torch.zeros(self.x_shape, dtype=torch.float64))
        self.register_buffer("unit", torch.ones(self.x_shape, dtype=torch.float64))

    def forward(self, z: Tensor) -> Cells:
        axes = len(self.x_shape)
        f, g = self.decoder(z).unflatten(-axes, (2, self.x_shape[0])).unbind(-1 - axes)
        scale = self.unit * (self.min_scale + g.clamp(max=15).exp())
        # Cells: any of them may be missing
        return Cells(GumbelCells(self.shift + self.unit * f, scale, validate_args=False), axes)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        mean = x.nanmean(0)
        std = (x - mean).square().nanmean(0).sqrt()
        self.shift.copy_(mean)
        self.unit.copy_(torch.where(std > 0, std, 1.0))
