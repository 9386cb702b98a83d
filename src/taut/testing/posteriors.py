"""The contract of a variational family."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from taut.model.q.base import Posterior
from taut.testing.densities import check_draws
from taut.testing.rules import (
    broken,
    perturbed,
    reproducible,
    require,
    require_close,
    require_every_gradient,
    require_registered,
    require_same,
    roughly,
)


def check_q(q: Posterior, x: Float[Tensor, "b *x"] | None = None) -> None:
    """Hold a variational family against its contract: q(z | x) of batch ``(b,)`` and event ``z_shape``, in float64.

    q for one x does not depend on its batch mates and is the same each time; its samples have its density, which is
    normalised; draws carry a gradient where ``has_rsample`` says so; missing cells (NaN) leave it a distribution; the
    gradient reaches every parameter; its state is in ``state_dict``; tensors are parameters or buffers.

    Args:
        q: A family for z of one to three coordinates, or a category.
        x: Five or so data; by default drawn from its joint.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(isinstance(q, Posterior), "a q is a taut.model.q.base.Posterior", "one", type(q).__name__)
    with reproducible(q, q.joint):
        x = q.joint.sample(5)[1] if x is None else x
        z_shape = tuple(q.joint.prior.z_shape)
        for rows in (x[:1], x):
            d = q(rows)
            require_same(tuple(d.batch_shape), (len(rows),), f"the batch shape of q(x) for {len(rows)} data")
            require_same(tuple(d.event_shape), z_shape, "the event shape of q(x) is z_shape")
            z = d.sample(torch.Size([4]))
            require_same(tuple(z.shape), (4, len(rows), *z_shape), "the shape of q(x).sample((4,))")
            require_same(tuple(d.log_prob(z).shape), (4, len(rows)), "the shape of log_prob of 4 draws of each")
        d = q(x)
        z = d.sample(torch.Size([4]))
        log_q = d.log_prob(z)
        require_same(log_q.dtype, torch.float64, "log q(z | x) is in double precision")
        _check_alone(q, x, z, log_q)
        _check_missing(q, x)
        check_draws(q(x[:1]), "q(z | x)")
        _check_gradients(q, x)
        _check_state(q, x, z, log_q)


def _check_alone(q: Posterior, x: Tensor, z: Tensor, log_q: Tensor) -> None:
    close = roughly(q)
    require_close(q(x).log_prob(z), log_q, "q(x) is the same each time, in evaluation mode", rtol=close, atol=close)
    for i in range(len(x)):
        alone = q(x[i : i + 1]).log_prob(z[:, i : i + 1])[:, 0]
        require_close(alone, log_q[:, i], "q(z | x) does not depend on the batch mates of x", rtol=close, atol=close)


def _check_missing(q: Posterior, x: Tensor) -> None:
    rule, expected = "q(z | x) where cells of x are missing (NaN)", "finite densities of its draws"
    try:
        d = q(x.masked_fill(torch.rand(x.shape) < 0.5, torch.nan))
        finite = d.log_prob(d.sample(torch.Size([4]))).isfinite().all()
    # torch's distributions refuse parameters that are NaN, unless they were told not to look
    except ValueError as error:
        raise broken(rule, expected, str(error).splitlines()[0]) from error
    require(finite, rule, expected, "others")


def _check_gradients(q: Posterior, x: Tensor) -> None:
    d = q(x)
    require_every_gradient(q, d.log_prob(d.sample()) * torch.rand(len(x)))
    if d.has_rsample and any(p.requires_grad for p in q.parameters()):
        require(d.rsample().requires_grad, "draws are reparameterised where has_rsample is true", "a gradient", "none")


def _check_state(q: Posterior, x: Tensor, z: Tensor, log_q: Tensor) -> None:
    require_registered(q)
    other = perturbed(q)
    other.load_state_dict(copy.deepcopy(q.state_dict()))
    require_close(other(x).log_prob(z), log_q, "state_dict holds all of q", rtol=1e-12, atol=1e-12)
    if any(True for _ in q.parameters()):
        rounded = copy.deepcopy(q).float()(x.float()).log_prob(z)
        require(rounded.isfinite().all(), "q in single precision", "finite densities", "others")
