"""Several imputations of a table analysed as one: Rubin's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from taut.errors import UserError

Values = Float[np.ndarray, "*e"]


@dataclass(frozen=True)
class Pooled:
    r"""What m imputations say of an estimate (Rubin, 1987, section 3.1).

    Args:
        estimate: $\bar Q$, the mean of the m estimates.
        within: $\bar U$, the mean of their variances: what the estimate would vary by without a missing cell.
        between: B, the variance of the m estimates: what the missing cells add.
        count: m.
    """

    estimate: Values
    within: Values
    between: Values
    count: int

    @property
    def variance(self) -> Values:
        r"""$T = \bar U + (1 + 1/m) B$."""
        return self.within + self._added

    @property
    def standard_error(self) -> Values:
        """Square root of the variance."""
        return np.sqrt(self.variance)

    @property
    def freedom(self) -> Values:
        r"""$\nu = (m - 1) (1 + \bar U / ((1 + 1/m) B))^2$; infinite where the imputations agree."""
        added = self._added
        # 1 in place of 0 keeps numpy silent where the imputations agree
        spread = self.within / np.where(added > 0, added, 1.0)
        return np.where(added > 0, (self.count - 1) * np.square(1 + spread), np.inf)

    @property
    def missing_information(self) -> Values:
        r"""Part of the information that is missing, $(r + 2 / (\nu + 3)) / (r + 1)$, $r = (1 + 1/m) B / \bar U$."""
        added, within = self._added, self.within
        # both sides of the fraction times U, which may be 0
        return (added + 2 * within / (self.freedom + 3)) / np.where(added + within > 0, added + within, 1.0)

    def interval(self, share: float = 0.95) -> tuple[Values, Values]:
        r"""$\bar Q \pm t_\nu \sqrt T$, which holds the truth with this probability.

        Raises:
            UserError: If the share is not between 0 and 1.
        """
        from scipy.special import stdtrit  # half a second that imputations alone need not wait for

        if not 0 < share < 1:
            raise UserError(f"share={share} must lie between 0 and 1, such as 0.95.")
        # of infinite freedom scipy knows no quantile
        far = stdtrit(np.minimum(self.freedom, 1e9), 0.5 + share / 2) * self.standard_error
        return self.estimate - far, self.estimate + far

    @property
    def _added(self) -> Values:
        return (1 + 1 / self.count) * self.between


def pool(estimates: Sequence[object], variances: Sequence[object]) -> Pooled:
    """One estimate from those of several completed tables, with an error that knows what was missing (Rubin, 1987).

    Args:
        estimates: An estimate for each table, numbers or arrays of one shape, such as the coefficients of a regression.
        variances: The square of the standard error of each.

    Raises:
        UserError: If there are fewer than two, their shapes differ, or a variance is below 0.

    >>> pooled = pool([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    >>> pooled.estimate.item(), round(pooled.variance.item(), 4), round(pooled.freedom.item(), 4)
    (2.0, 1.8333, 3.7812)
    """
    q, u = ([np.asarray(one, dtype=float) for one in some] for some in (estimates, variances))
    if len(q) < 2 or len(q) != len(u):
        raise UserError(f"pool() got {len(q)} estimates and {len(u)} variances; give one of each for 2 tables or more.")
    if len({one.shape for one in (*q, *u)}) > 1:
        raise UserError("pool() got estimates and variances of several shapes; give all of them one shape.")
    if any((one < 0).any() for one in u):
        raise UserError("pool() got a variance below 0; give squares of standard errors.")
    return Pooled(np.mean(q, 0), np.mean(u, 0), np.var(q, 0, ddof=1), len(q))
