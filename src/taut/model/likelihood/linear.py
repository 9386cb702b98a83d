"""Linear-Gaussian likelihood of probabilistic PCA."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from taut.model.likelihood.linear_gaussian import LinearGaussian, principal


class Linear(LinearGaussian):
    r"""$p(x \mid z) = N(x; W z + \mu, \sigma^2 I)$: probabilistic PCA under a normal prior (Tipping & Bishop, 1999).

    EM starts at the maximum of the likelihood, which is known in closed form where no cell is missing; elsewhere at
    that of the rows with the missing cells at the mean of their column.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of latent coordinates d.
        min_variance: Floor of $\sigma^2$, as a fraction of the mean variance of the columns of the training rows (of 1
            where all of them are constant).
    """

    reference = "the mean variance of the columns"

    def __init__(self, x_shape: Sequence[int], latent: int, *, min_variance: float = 1e-14) -> None:
        super().__init__(x_shape, latent, 1, min_variance)

    @property
    def variance(self) -> Float[Tensor, ""]:
        r"""$\sigma^2$, in squared units of x."""
        return (self.unit[0] * self.std[0]).square()

    @property
    def degrees_of_freedom(self) -> int:
        """Free numbers of W (d D - d (d - 1) / 2), of the mean (D) and the variance, no more than a Gaussian has."""
        size = len(self.unit)
        return min(self._free_loadings() + size + 1, size * (size + 3) // 2)

    def unit_of(self, stds: Float[Tensor, " D"]) -> Float[Tensor, "..."]:
        largest = stds.max()
        # relative to the largest, because squares may overflow
        return largest * (stds / largest).square().mean().sqrt() if largest > 0 else torch.ones_like(largest)

    def fitted(self, root: Float[Tensor, "m D"], incomplete: bool) -> tuple[Tensor, Tensor]:
        del incomplete
        return principal(root, self.loadings.shape[1], self.min_variance)

    def _set_variance(self, squares: Tensor, counts: Tensor, some: Tensor | slice) -> None:
        del some
        self.log_variance.copy_(self._log_above_floor(squares.sum() / counts.sum()))
