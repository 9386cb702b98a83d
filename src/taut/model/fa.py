"""Factor analysis."""

from taut.joint import Joint
from taut.likelihood.factor import Factor
from taut.model.base import LatentVariableModel, require
from taut.oracle import tractable


class FA(LatentVariableModel):
    r"""$z \sim N(0, I)$ (or a mixture), $x \mid z \sim N(W z + \mu, \mathrm{diag}\, \psi)$ (Rubin & Thayer, 1982).

    $\log p(x) = \log N(x; \mu, W W^\top + \mathrm{diag}\, \psi)$. Unlike probabilistic PCA, every column has a noise
    of its own, so the fit is the same in every unit of every column.
    """

    def check_joint(self, joint: Joint) -> None:
        solvable = isinstance(joint.likelihood, Factor) and tractable(joint)
        require(solvable, "fa", "likelihood=factor under a Gaussian or mixture prior", joint)
