"""Probabilistic principal component analysis."""

from taut.joint import Joint
from taut.likelihood.linear import Linear
from taut.model.base import LatentVariableModel, require
from taut.oracle import tractable


class PPCA(LatentVariableModel):
    r"""$z \sim N(0, I)$ (or a mixture), $x \mid z \sim N(W z + \mu, \sigma^2 I)$ (Tipping & Bishop, 1999).

    $\log p(x) = \log N(x; \mu, W W^\top + \sigma^2 I)$, and the posterior is Gaussian: the anchor that bounds are
    held against. Under ``objective=em`` it starts at the maximum of the likelihood where no cell is missing.
    """

    def check_joint(self, joint: Joint) -> None:
        solvable = isinstance(joint.likelihood, Linear) and tractable(joint)
        require(solvable, "ppca", "a linear likelihood under a Gaussian or mixture prior", joint)
