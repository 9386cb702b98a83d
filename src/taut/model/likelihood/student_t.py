"""Student's t likelihood with a network."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Chi2, Distribution
from torch.distributions import StudentT as TorchStudentT
from torch.nn.functional import softplus

from taut.model.likelihood.per_cell import LocationScale

LEAST = 3.0
"""Degrees of freedom from which on they are learned: below 2 a cell has no variance."""


class StudentTCells(TorchStudentT):
    """Student's t of more than two degrees of freedom, whose values torch does not look at.

    It would validate them, for which a GPU would have to be waited for, and ``torch.export`` stop.
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.df, self.loc, self.scale = df, loc, scale
        self._chi2 = Chi2(df, validate_args=False)
        Distribution.__init__(self, loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * self.df / (self.df - 2)


class StudentT(LocationScale):
    r"""$p(x \mid z) = \prod_i t_{\nu_i}((x_i - \mu_i - s_i f_i) / (s_i b_i)) / (s_i b_i)$, $b = b_{\min} + e^g$.

    $t_\nu$ is Student's density with $\nu = 3 + \log(1 + e^h)$ degrees of freedom (Mattei & Frellsen, 2019), so that
    mean and variance exist; $\mu$ and s are the mean and the standard deviation of the training rows, and the network
    gives f, g and h. Outliers cost the logarithm of their distance, not its square.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; the heads f, g and h lie along the first axis of its output.
        min_scale: The floor $b_{\min}$, as a fraction of each coordinate's standard deviation.
    """

    def __init__(
        self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], *, min_scale: float = 0.01
    ) -> None:
        super().__init__(x_shape, latent, decoder, 3, min_scale)

    def standard(self, heads: Float[Tensor, "3 *cells"]) -> StudentTCells:
        f, g, h = heads
        return StudentTCells(LEAST + softplus(h), f, self.scale(g))
