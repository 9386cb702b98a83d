"""ELBO whose KL is free up to a limit."""

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.distributions import Distribution, Independent, kl_divergence

from taut.distributions.categories import Categories
from taut.errors import UserError
from taut.functional.bounds import elbo
from taut.functional.types import LogWeights
from taut.model.draws import Draws
from taut.model.joint import Joint
from taut.model.prior.base import Prior
from taut.model.q.base import Posterior
from taut.objective.base import Objective, leave_one_out, mean_of_others


class FreeBits(Objective):
    r"""Minimises $\sum_j \max(\lambda, \mathrm{KL}_j) - E_q[\log p(x \mid z)]$ (Kingma et al., 2016, appendix C).

    $\mathrm{KL}_j$ is that of coordinate j of z, in closed form, averaged over the batch. A coordinate that says less
    than $\lambda$ nats of x is not pulled to the prior, so that none is given up early in training. What is reported is
    the ELBO, with all of the KL.

    Args:
        nats: $\lambda$, nats for each coordinate; 0 is ``objective=elbo``.

    Raises:
        UserError: If it is below 0.
    """

    def __init__(self, nats: float = 0.1) -> None:
        if not 0 <= nats < float("inf"):
            raise UserError(f"objective.nats must be a finite number >= 0, got {nats}.")
        self.nats = nats

    def bound(self, log_w: LogWeights) -> Float[Tensor, " b"]:
        return elbo(log_w)

    def surrogate(self, draws: Draws) -> Float[Tensor, ""]:
        divergence = kl_of_coordinates(draws.q, draws.prior)
        # where, and not max of this process's own mean: all processes must agree on what is free
        paid = torch.where(_mean_of_all(divergence) > self.nats, divergence.mean(0), self.nats)
        value = draws.log_px.mean(0)
        if not draws.q.has_rsample:
            signal = draws.log_px
            value = value + leave_one_out(signal, mean_of_others(signal), draws.log_qz) / len(signal)
        return draws.kl_weight * paid.sum() - value.mean()

    def check(self, joint: Joint, q: Posterior, k: int, x: Float[Tensor, "b *x"]) -> None:
        super().check(joint, q, k, x)
        try:
            with torch.no_grad():
                kl_of_coordinates(q(x), joint.prior())
        except NotImplementedError as error:
            raise UserError(
                f"objective=free_bits needs the KL of every coordinate of z in closed form, which q="
                f"{type(q).__name__.lower()} under prior={type(joint.prior).__name__.lower()} lacks; choose "
                f"objective=elbo{_or_other_pieces(joint.prior)}."
            ) from error


def _or_other_pieces(prior: Prior) -> str:
    """Pieces that have the KL in closed form, of a z of this kind; words after ``choose objective=elbo``."""
    if prior.layered:
        return ", or a z of one layer (leave layers= and prior=layers out)"
    if prior.categorical:
        return ""
    if prior.discrete:
        return f", or q={type(prior).__name__.lower()}"
    return ", or q=diagonal and prior=normal"


def kl_of_coordinates(q: Distribution, prior: Distribution) -> Float[Tensor, "b d"]:
    r"""$\mathrm{KL}(q(z_j \mid x) \| p(z_j))$ of every coordinate, or of every category, nats.

    Raises:
        NotImplementedError: If coordinates are not independent under both, or have no such closed form.
    """
    if not (isinstance(q, (Independent, Categories)) and isinstance(prior, (Independent, Categories))):
        raise NotImplementedError("coordinates that are not independent")
    # expanded, since torch's formula for bits does not broadcast
    return kl_divergence(q.base_dist, prior.base_dist.expand(q.base_dist.batch_shape))


def _mean_of_all(values: Float[Tensor, "b d"]) -> Float[Tensor, " d"]:
    """The mean over the rows of all processes, without a graph."""
    sums = torch.cat([values.detach().sum(0), values.new_full((1,), len(values))])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    return sums[:-1] / sums[-1]
