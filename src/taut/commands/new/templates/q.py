"""A variational family of your own: a Laplace distribution for each coordinate of z."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension


class Mine(Amortised):
    r"""$q(z \mid x) = \prod_i \mathrm{Laplace}(z_i; m_i(x), e^{s_i(x)})$.

    A family with a network of x says how many numbers it needs from it, and what distribution they make. ``Amortised``
    builds the network, standardises the columns of a table for it, and puts zeros in missing cells. A family without a
    network subclasses ``Posterior`` and gives its distribution from ``forward(x)``. Either is of batch ``(b,)`` and
    event ``z_shape``, and q for one x must not depend on the others of its batch. This one is for priors of all
    real z; ``taut.model.q.base.onto_support`` carries a q onto the box of ``prior=uniform``.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m and s.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        super().__init__(joint, x_shape, 2 * dimension(joint, "mine"), encoder)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        middle, log_scale = parameters.chunk(2, -1)
        return Independent(Laplace(middle, log_scale.clamp(-15, 15).exp(), validate_args=False), 1)
