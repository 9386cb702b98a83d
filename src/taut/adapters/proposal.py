"""A q of any origin as the distribution that the estimators draw from, and the family of a Gaussian one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform

from taut.adapters.zuko import in_float64, is_flow
from taut.errors import UserError
from taut.evidence.optimal_q import Family
from taut.functional.precision import in_double


class Sampled(Distribution):
    r"""$q(z \mid x)$ of which no more is known than how to draw from it and to score it: batch ``(b,)``.

    Args:
        x: The data, ``[b, *x]``.
        sample: From x and k to z, ``[k, b, *z]``.
        log_prob: From x and z to the log-density of each, ``[k, b]``, nats.
        z_shape: Shape of one z.
        support: Where z lives.
    """

    def __init__(
        self,
        x: Tensor,
        sample: Callable[[Tensor, int], Tensor],
        log_prob: Callable[[Tensor, Tensor], Tensor],
        z_shape: torch.Size,
        support: Constraint = constraints.real_vector,
    ) -> None:
        super().__init__(torch.Size([len(x)]), z_shape, validate_args=False)
        # bound to x, not beside it: a copy in float64 would hand networks an x of another precision
        self._sample, self._score, self._support = partial(sample, x), partial(log_prob, x), support

    @property
    def arg_constraints(self) -> dict[str, Constraint]:
        """None: there are no parameters."""
        return {}

    @property
    def support(self) -> Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where z lives."""
        return self._support

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        z = self._sample(shape.numel()).double()
        return z.reshape(*shape, *z.shape[1:])

    def log_prob(self, value: Tensor) -> Tensor:
        inner = len(self.event_shape) + 1
        before = value.shape[: value.dim() - inner]
        log_q = self._score(value.reshape(-1, *value.shape[-inner:]))
        return log_q.double().reshape(*before, value.shape[-inner])


def proposal_from(q: Any, x: Tensor) -> Callable[[Tensor], Distribution]:
    """From x to a distribution with batch ``(b,)``, z as its events, in float64.

    Args:
        q: What a :class:`~taut.adapters.base.Auditable` has for it: a function, a module, a flow of zuko's, or an
            object with ``sample(x, k)`` and ``log_prob(x, z)``.
        x: Some data.

    Raises:
        UserError: If it is nothing of that, or gives what is no q.
    """
    if hasattr(q, "sample") and hasattr(q, "log_prob") and not isinstance(q, Distribution):
        z_shape = _draws_of(q, x).shape[2:]
        return lambda x: Sampled(x, q.sample, q.log_prob, z_shape)
    if not callable(q):
        raise UserError(
            f"q must be a function of x that gives a distribution of torch, or mean and log-variance of a Gaussian, or "
            f"an object with sample(x, k) and log_prob(x, z), got {q!r}."
        )
    if is_flow(q):
        flow = in_float64(q)
        return lambda x: whole(flow(x.flatten(1).double()), len(x))
    dtype = next((one.dtype for one in q.parameters()), x.dtype) if isinstance(q, nn.Module) else x.dtype
    return lambda x: _distribution(q(x.to(dtype)), len(x))


def gaussian(mean: Tensor, log_variance: Tensor) -> Distribution:
    """A Gaussian that is independent along all axes but the first, in float64."""
    normal = Normal(mean.double(), (log_variance.double() / 2).exp(), validate_args=False)
    return Independent(normal, mean.dim() - 1, validate_args=False)


def family_of(q: Callable[[Tensor], Distribution], x: Tensor) -> Family | None:
    """The family of a Gaussian q, diagonal or full, as its mean and the logarithm of its scales; None for any other."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        example = q(x[:1])
    if isinstance(example, Independent) and isinstance(example.base_dist, Normal):
        shape = example.event_shape

        def member(parameters: Tensor) -> Distribution:
            mean, log_variance = (part.unflatten(1, shape) for part in parameters.chunk(2, 1))
            return gaussian(mean, log_variance)

        return Family(member, lambda x: _diagonal(q(x)))
    if isinstance(example, MultivariateNormal):
        d = example.event_shape[0]
        return Family(partial(_full, d), lambda x: _lower_triangle(q(x)))
    return None


def _diagonal(q: Distribution) -> Tensor:
    return torch.cat([q.mean.flatten(1), 2 * q.stddev.flatten(1).log()], 1)


def _lower_triangle(q: Any) -> Tensor:
    """Mean, the logarithm of the diagonal of the factor, and what is below it."""
    factor = q.scale_tril
    below = torch.tril_indices(factor.shape[-1], factor.shape[-1], -1)
    return torch.cat([q.loc, factor.diagonal(dim1=-2, dim2=-1).log(), factor[:, below[0], below[1]]], 1)


def _full(d: int, parameters: Tensor) -> Distribution:
    mean, log_diagonal, rest = parameters.double().tensor_split([d, 2 * d], 1)
    below = torch.tril_indices(d, d, -1)
    factor = torch.diag_embed(log_diagonal.exp()).index_put(
        (torch.arange(len(mean))[:, None], below[0], below[1]), rest, accumulate=True
    )
    return MultivariateNormal(mean, scale_tril=factor, validate_args=False)


def _distribution(answer: Any, b: int) -> Distribution:
    if isinstance(answer, Distribution):
        return whole(answer, b)
    if isinstance(answer, tuple | list) and len(answer) == 2 and all(isinstance(part, Tensor) for part in answer):
        mean, log_variance = answer
        if mean.shape == log_variance.shape and len(mean) == b and mean.dim() > 1:
            return gaussian(mean, log_variance)
    raise UserError(
        "q(x) must be a distribution of torch, or a pair of tensors [b, d], mean and log-variance of a Gaussian, got "
        f"{_described(answer)}."
    )


def _described(answer: Any) -> str:
    if isinstance(answer, tuple | list):
        return f"({', '.join(map(_described, answer))})"
    return f"a tensor of shape {list(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"


def whole(q: Distribution, b: int) -> Distribution:
    """A q with batch ``(b,)``: independent along further axes of its batch, in float64 where it is made of tensors."""
    if len(q.batch_shape) > 1 and q.batch_shape[0] == b:
        q = Independent(q, len(q.batch_shape) - 1, validate_args=False)
    # one that calls networks of its own would hand them numbers of another precision
    return in_double(q) if _of_tensors(q) else q


def _of_tensors(part: Any) -> bool:
    """Tell whether a distribution is made of tensors and of other distributions, with no function or network inside."""
    if isinstance(part, Distribution | Transform) and not isinstance(part, nn.Module):
        return all(_of_tensors(value) for name, value in vars(part).items() if name != "_inv")
    if isinstance(part, list | tuple) and not isinstance(part, torch.Size):
        return all(map(_of_tensors, part))
    return part is None or isinstance(part, Tensor | bool | int | float | str | torch.Size | Constraint)


def _draws_of(q: Any, x: Tensor) -> Tensor:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        z = q.sample(x[:1], 2)
        log_q = q.log_prob(x[:1], z) if isinstance(z, Tensor) and z.dim() > 2 and z.shape[:2] == (2, 1) else None
    if log_q is None or log_q.shape != (2, 1):
        raise UserError(
            f"q.sample(x, 2) of one datum must be z of shape [2, 1, d], and q.log_prob(x, z) then of shape [2, 1], got "
            f"{_described(z)}{'' if log_q is None else f' and {_described(log_q)}'}."
        )
    return z
