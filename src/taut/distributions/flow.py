"""A diagonal Gaussian, bent by a flow."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from taut.distributions.from_noise import FromNoise
from taut.distributions.gaussian import Gaussian


class Flow(FromNoise):
    r"""The distribution of $z = m + s \odot T^{-1}(n; h)$, n standard normal.

    $\log p(z) = \log N(T(u; h); 0, I) + \log |\det T'(u; h)| - \sum_i \log s_i$ with $u = (z - m) / s$. Where T is the
    identity, this is $N(z; m, \mathrm{diag}\, s^2)$. Its mean and its variance have no closed form.
    """

    loc: Tensor
    scale: Tensor
    context: Tensor
    couplings: Any

    @classmethod
    def of(cls, loc: Tensor, scale: Tensor, context: Tensor, couplings: Callable[..., Any]) -> "Flow":
        """The flow with these m and s, ``[*batch, d]``, and h, ``[*batch, c]``.

        Args:
            loc: The shift m.
            scale: The scale s.
            context: What the flow is told, h.
            couplings: From u and h to T(u; h) and the log-determinant; ``inverse`` leads back.
        """
        noise = torch.promote_types(loc.dtype, torch.float32)
        made = cls(loc.shape[:-1], loc.shape[-1], noise, loc=loc, scale=scale, context=context)
        made.couplings = couplings
        return made

    def from_noise(self, noise: Float[Tensor, "k *batch d"]) -> Float[Tensor, "k *batch d"]:
        u = self.couplings.inverse(noise.to(self.loc.dtype), self.context)
        return self.loc + self.scale * u

    def log_prob(self, value: Tensor) -> Tensor:
        n, ladj = self.couplings((value - self.loc) / self.scale, self.context)
        return Gaussian.of(torch.zeros_like(n), torch.ones_like(n)).log_prob(n) + ladj - self.scale.log().sum(-1)

    @property
    def mean(self) -> Tensor:
        """Refused, as torch has it for distributions that do not know their mean."""
        raise NotImplementedError("a flow has no mean in closed form")
