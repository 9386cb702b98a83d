"""Gaussian likelihood with a network, and a model of which cells are missing."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from taut.distributions.self_masked import SelfMasked
from taut.errors import UserError
from taut.model.likelihood.gaussian import Gaussian

SIGNS = {"high": 1.0, "low": -1.0}
UNITS = ("observed", "given")
START = 0.5413
"""Whose softplus is 1: at first the odds grow by a factor of e with a standard deviation."""


class SelfMasking(Gaussian):
    r"""Gaussian cells, each missing or not for what it holds (Ipsen, Mattei & Frellsen, 2021).

    $$p(x_{obs}, s \mid z) = \prod_{obs} p(x_i \mid z)\, \sigma(-\ell_i(x_i))
      \prod_{mis} \int p(x_i \mid z)\, \sigma(\ell_i(x_i))\, dx_i, \qquad
      \ell_i(x_i) = a_i (x_i - \mu_i) / s_i + c_i.$$

    Where Ipsen et al. draw the missing cells, here they are summed over in closed form
    (:mod:`taut.distributions.self_masked`): the density of an x with missing cells is that of the observed ones and of
    the mask s, without noise, and by Jensen's inequality the bound is at least theirs.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: As for :class:`~taut.model.likelihood.gaussian.Gaussian`.
        missing: Which values are missing more often: ``high`` ($a_i > 0$), ``low`` ($a_i < 0$), or ``unknown``.
        units: Mean and standard deviation that the network starts from: of the ``observed`` cells, which are too narrow
            where a tail is missing; or ``given``, 0 and 1, for a table that was standardised before its cells went
            missing, as in the experiments of Ipsen et al.
        min_variance: The floor of the variance, as a fraction of each coordinate's.

    Raises:
        UserError: If ``missing`` or ``units`` is another word; from ``initialise``, if no cell is missing.
    """

    models_mask = True

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        *,
        missing: Literal["high", "low", "unknown"] = "high",
        units: Literal["observed", "given"] = "observed",
        min_variance: float = 1e-4,
    ) -> None:
        if missing not in (*SIGNS, "unknown"):
            raise UserError(f"likelihood.missing={missing!r} must be high, low or unknown.")
        if units not in UNITS:
            raise UserError(f"likelihood.units={units!r} must be observed or given.")
        super().__init__(x_shape, latent, decoder, min_variance=min_variance)
        self.sign, self.units = SIGNS.get(missing), units
        # of unknown sign it starts without one
        self.steepness = nn.Parameter(torch.full(self.x_shape, START if self.sign else 0.0))
        self.level = nn.Parameter(torch.zeros(self.x_shape))

    @property
    def slope(self) -> Float[Tensor, "*x"]:
        """$a$: by how much the log-odds of being missing grow with a standard deviation."""
        return self.steepness if self.sign is None else self.sign * softplus(self.steepness)

    def forward(self, z: Float[Tensor, "*batch d"]) -> SelfMasked:
        return SelfMasked(super().forward(z), self.slope, self.level)

    def hidden(self, x: Float[Tensor, "n *x"]) -> Float[Tensor, "n *x"]:
        odds = self.slope * ((x - self.shift) / self.scale) + self.level
        return x.masked_fill(torch.rand_like(x) < odds.sigmoid(), torch.nan)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        missing = x.isnan()
        if not missing.any():
            raise UserError(
                "likelihood=self_masking learns which cells are missing, and of these data none is: add "
                "mask=from_data for a table with empty cells, or choose likelihood=gaussian."
            )
        super().initialise(x)
        if self.units == "given":
            self.shift.zero_()
            self.scale.fill_(1.0)
        # half a row more on each side: a column without a missing cell has finite odds
        self.level.copy_(((missing.sum(0) + 0.5) / (len(x) + 1)).logit())
