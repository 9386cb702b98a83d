"""The contract of a prior."""

import copy

import torch

from taut.model.prior.base import Prior
from taut.testing.densities import check_draws
from taut.testing.rules import (
    perturbed,
    reproducible,
    require,
    require_close,
    require_every_gradient,
    require_registered,
    require_same,
)


def check_prior(prior: Prior) -> None:
    """Hold a prior against its contract: p(z) of batch ``()`` and event ``z_shape``, in float64.

    Its samples have its density, which is normalised; the gradient of log p(z) reaches every parameter; its state is in
    ``state_dict``; tensors are parameters or buffers.

    Args:
        prior: A prior with one to three coordinates of z, or a category; with one, the test is the sharpest.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(isinstance(prior, Prior), "a prior is a taut.model.prior.base.Prior", "one", type(prior).__name__)
    with reproducible(prior):
        p = prior()
        z = p.sample(torch.Size([4, 5]))
        require_same(tuple(p.batch_shape), (), "the batch shape of prior()")
        require_same(tuple(p.event_shape), tuple(prior.z_shape), "the event shape of prior() is z_shape")
        require_same(tuple(z.shape), (4, 5, *prior.z_shape), "the shape of prior().sample((4, 5))")
        require_same(tuple(p.log_prob(z).shape), (4, 5), "the shape of log_prob of 4 x 5 draws")
        require_same(p.log_prob(z).dtype, torch.float64, "log p(z) is in double precision")
        require_same(prior.discrete, p.has_enumerate_support, "support says that z is a category where it is one")
        check_draws(p, "p(z)")
        require_every_gradient(prior, p.log_prob(z) * torch.rand(4, 5))
        _check_state(prior, z)


def _check_state(prior: Prior, z: torch.Tensor) -> None:
    require_registered(prior)
    other = perturbed(prior)
    other.load_state_dict(copy.deepcopy(prior.state_dict()))
    require_close(other().log_prob(z), prior().log_prob(z), "state_dict holds all of the prior")
    rounded = copy.deepcopy(prior).float()
    require(rounded().log_prob(z).isfinite().all(), "a prior in single precision", "finite densities", "others")
