"""Mixture of Gaussians as q."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.distributions.from_noise import GaussianMixture
from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, kept_clear, onto_support
from taut.model.q.diagonal import LIMIT


class Mixture(Amortised):
    r"""$q(z \mid x) = \frac1S \sum_s N(z; m_s(x), \mathrm{diag}\, e^{v_s(x)})$ (MISELBO; Kviman et al., 2022, 2023).

    Training draws from the components in turn, from a random one on: K draws, K a multiple of S, hold all components
    equally often. Every draw is scored under the mixture, the balance heuristic (Veach & Guibas, 1995), and has its
    density whatever K is. Evaluation draws independently of the same density, so that blocks of draws, jackknife,
    upper bounds and k-hat are those of any q. Weights are equal and not learned: draws have no gradient by them.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives the means and log-variances of all components.
        components: Number of Gaussians S; one is ``diagonal``.
    """

    def __init__(
        self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module], components: int = 4
    ) -> None:
        super().__init__(joint, x_shape, 2 * components * dimension(joint, "mixture"), encoder)
        self.components = components

    @property
    def stratified(self) -> bool:
        return self.components > 1

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        mean, log_variance = parameters.unflatten(-1, (self.components, -1)).chunk(2, -1)
        mean, log_variance = kept_clear(mean, log_variance, self.joint.prior)
        std = (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
        return onto_support(GaussianMixture.of(mean, std), self.joint.prior)
