"""Linear-Gaussian likelihood of factor analysis."""

from collections.abc import Sequence
from math import log, prod

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from taut.model.likelihood.linear_gaussian import LinearGaussian, principal

EVALUATIONS = 500
"""Most decompositions of the search for the maximum, before EM goes on from there."""


class Factor(LinearGaussian):
    r"""$p(x \mid z) = N(x; W z + \mu, \mathrm{diag}\, \psi)$: factor analysis under a normal prior.

    EM (Rubin & Thayer, 1982) takes thousands of iterations where a $\psi_j$ tends to 0 (a Heywood case). Where no cell
    is missing, it therefore starts where :func:`maximum` ends; elsewhere at the probabilistic PCA of the standardised
    columns with their missing cells at the mean.

    Args:
        x_shape: Shape of one datum, D numbers in all.
        latent: Number of latent coordinates (factors) d.
        min_variance: Floor of every $\psi_j$, as a fraction of the variance of its column in the training rows (of 1
            where the column is constant).
    """

    reference = "the variance of its column"

    def __init__(self, x_shape: Sequence[int], latent: int, *, min_variance: float = 1e-14) -> None:
        super().__init__(x_shape, latent, prod(x_shape), min_variance)

    @property
    def variance(self) -> Float[Tensor, " D"]:
        r"""$\psi$, in squared units of x."""
        return (self.unit * self.std).square()

    @property
    def degrees_of_freedom(self) -> int:
        r"""Free numbers of W (d D - d (d - 1) / 2), of the mean (D) and of $\psi$ (D), no more than a Gaussian has."""
        size = len(self.unit)
        return min(self._free_loadings() + 2 * size, size * (size + 3) // 2)

    def unit_of(self, stds: Float[Tensor, " D"]) -> Float[Tensor, "..."]:
        return torch.where(stds > 0, stds, 1.0)

    def fitted(self, root: Float[Tensor, "m D"], incomplete: bool) -> tuple[Tensor, Tensor]:
        weight, variance = principal(root, self.loadings.shape[1], self.min_variance)
        return (weight, variance) if incomplete else maximum(root, self.loadings.shape[1], variance, self.min_variance)

    def _set_variance(self, squares: Tensor, counts: Tensor, some: Tensor | slice) -> None:
        self.log_variance[some] = self._log_above_floor(squares / counts).to(self.log_variance)


def maximum(
    root: Float[Tensor, "m D"], latent: int, start: Float[Tensor, ""], floor: float
) -> tuple[Float[Tensor, "D d"], Float[Tensor, " D"]]:
    r"""W and $\psi$ of factor analysis for rows of covariance $R^\top R$, by quasi-Newton steps (Joreskog, 1967).

    The best W for a $\psi$ has a closed form (:func:`best_weight`); what is left is a function of $\log \psi$ alone,
    whose gradient is $\frac12 (\psi + \mathrm{diag}(W W^\top - R^\top R)) / \psi$. L-BFGS-B minimises it between the
    floor and the variance of the column, in tens of steps where EM takes thousands.

    Args:
        root: R, columns of variance 1 or 0.
        latent: d.
        start: Every $\psi_j$ at the start.
        floor: Smallest $\psi_j$.
    """
    # here, where it is needed: scipy.optimize takes long to import
    from scipy.optimize import minimize

    variances = root.square().sum(0)

    def loss(log_psi: np.ndarray) -> tuple[float, np.ndarray]:
        psi = torch.as_tensor(log_psi).to(root).exp()
        weight, value = best_weight(root, psi, latent)
        gradient = 0.5 * (psi + weight.square().sum(1) - variances) / psi
        return value.item(), gradient.cpu().numpy()

    # a constant column has a variance of 0, and its upper bound would lie below the lower one
    upper = variances.clamp_min(floor).log().cpu().numpy()
    first = start.log().expand(len(upper)).cpu().numpy().clip(max=upper)
    bounds = [(log(floor), top) for top in upper]
    options = {"maxfun": EVALUATIONS, "maxiter": EVALUATIONS, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    psi = torch.as_tensor(found.x).to(root).exp()
    return best_weight(root, psi, latent)[0], psi


def best_weight(
    root: Float[Tensor, "m D"], psi: Float[Tensor, " D"], latent: int
) -> tuple[Float[Tensor, "D d"], Float[Tensor, ""]]:
    r"""The best W for a $\psi$, and $-\log p$ per row, up to a constant, nats.

    In the columns over $\sqrt{\psi_j}$ it is that of probabilistic PCA with $\sigma^2 = 1$: $U (\Lambda - I)^{1/2}$ of
    the eigenvalues above 1.
    """
    # of R and not of the covariance, whose squares would cost digits
    _, roots, directions = torch.linalg.svd(root / psi.sqrt(), full_matrices=False)
    values = roots.square()
    kept = values[:latent].clamp_min(1.0)
    weight = root.new_zeros(len(psi), latent)
    weight[:, : len(kept)] = psi.sqrt().unsqueeze(1) * directions[: len(kept)].mT * (kept - 1).sqrt()
    rest = (values[: len(kept)] - kept).sum() + values[len(kept) :].sum()  # of those below 1 as well
    return weight, 0.5 * (psi.log().sum() + (kept.log() + 1).sum() + rest)
