"""Modules of torch: an encoder that gives mean and log-variance, a decoder that gives logits or means."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.distributions.constraints import Constraint

from taut.adapters.base import Adapter, Subject, checked, dtype_of, modules_in, prior_of
from taut.adapters.proposal import family_of, proposal_from
from taut.config.synonyms import meant
from taut.errors import UserError
from taut.evidence.target import Target, innermost
from taut.functional.precision import in_double

Output = Literal["logits", "means"]
NAMES = ("bernoulli", "gaussian")
"""Likelihoods that a decoder can be named one of."""


class Plain(Adapter):
    r"""A model of parts that were written with torch alone: $p(z)$, $p(x \mid z)$ and $q(z \mid x)$.

    Networks are asked for rows: z of K draws for each of b data is one batch ``[k * b, d]`` to a decoder.

    Args:
        q: A module or function of x ``[b, *x]`` that gives mean and log-variance of a Gaussian, ``[b, d]`` each, or a
            distribution of torch with batch ``(b,)``.
        likelihood: A function of z ``[n, d]`` that gives the distribution of x, batch ``(n,)``; or ``bernoulli`` or
            ``gaussian``, of what the decoder gives.
        decoder: A module or function of z ``[n, d]``: logits or means of x, or for ``gaussian`` a pair, mean and
            log-variance.
        prior: The distribution of z; a standard normal one by default.
        output: What the decoder of ``bernoulli`` gives: ``logits``, or ``means``, the probabilities of a one.
        scale: Standard deviation of x under ``gaussian``, a number or a tensor, where the decoder gives means alone.
        name: What the model is called.

    Raises:
        UserError: If the parts do not say a likelihood.
    """

    def __init__(
        self,
        *,
        q: Any,
        likelihood: str | Callable[[Tensor], Distribution],
        decoder: Callable[[Tensor], Any] | None = None,
        prior: Any = None,
        output: Output = "logits",
        scale: float | Tensor | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(likelihood, str) != (decoder is not None):
            raise UserError(
                "A decoder goes with the name of its likelihood (likelihood='bernoulli' or 'gaussian'), and a "
                "likelihood that is a function of z needs no decoder."
            )
        if isinstance(likelihood, str) and likelihood not in NAMES:
            raise UserError(f"likelihood={likelihood!r} is not known; {meant('likelihood', likelihood, NAMES)}")
        if output not in ("logits", "means"):
            raise UserError(f"output={output!r} must be 'logits' or 'means'.")
        self.q, self.likelihood, self.decoder, self.prior = q, likelihood, decoder, prior
        self.output: Output = output
        self.scale = scale
        self.name = name or type(q).__name__
        self.modules = modules_in(q, likelihood, decoder, prior)

    def subject(self, x: Tensor) -> Subject:
        q = proposal_from(self.q, x)
        prior = _standard(q(x[:1])) if self.prior is None else prior_of(self.prior, q(x[:1]))
        given_z = GivenZ(self._distribution(x.shape[1:]), dtype_of(self.decoder or self.likelihood, x))
        target = given_z.target(x, prior, q)
        self._refuse_means(target, x)
        return checked(Subject(target, family_of(q, x)), x)

    def _refuse_means(self, target: Target, x: Tensor) -> None:
        """Refuse the logits of a decoder that gives probabilities: of so many z, logits lie on both sides."""
        if self.likelihood != "bernoulli" or self.output == "means" or self.decoder is None:
            return
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            z = target.q(x[:10]).sample(torch.Size([10])).flatten(0, 1)
            values = self.decoder(z.to(dtype_of(self.decoder, x)))
        if bool(((values >= 0) & (values <= 1)).all()):
            raise UserError(
                "The decoder gives nothing but numbers in [0, 1], as probabilities are and logits are not; set "
                "output='means'."
            )

    def _distribution(self, x_shape: torch.Size) -> Callable[[Tensor], Distribution]:
        if not isinstance(self.likelihood, str):
            return self.likelihood
        assert self.decoder is not None
        if self.likelihood == "bernoulli":
            return partial(_bernoulli, self.decoder, self.output, x_shape)
        return partial(_gaussian, self.decoder, self.scale, x_shape)


class GivenZ:
    r"""$p(x \mid z)$ of networks that take rows of z, in taut's shapes.

    Args:
        likelihood: From z ``[n, *z]`` to the distribution of x, batch ``(n,)`` or all axes of x behind it.
        dtype: The float type that its networks take.
    """

    def __init__(self, likelihood: Callable[[Tensor], Distribution], dtype: torch.dtype) -> None:
        self.likelihood, self.dtype = likelihood, dtype

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Nats, x ``[b, *x]`` and z ``[k, b, *z]`` to ``[k, b]``."""
        given = self.of(z.flatten(0, 1))
        rows = x.expand(len(z), *x.shape).reshape(given.batch_shape + given.event_shape)
        # numbers that single precision would round are scored in double
        log_px = (in_double(given) if x.dtype == torch.float64 else given).log_prob(rows)
        return log_px.reshape(*z.shape[:2], -1).sum(-1).double()

    def of(self, z: Tensor) -> Distribution:
        """The distribution of x given rows of z."""
        return self.likelihood(z.to(self.dtype))

    def target(self, x: Tensor, prior: Distribution, q: Callable[[Tensor], Distribution]) -> Target:
        """The model with this p(x | z), for data of this kind.

        Raises:
            UserError: If it has no density of them.
        """
        mass = self._support(x, q(x[:1])).is_discrete

        def simulate(n: int) -> tuple[Tensor, Tensor]:
            z = prior.sample(torch.Size([n]))
            return z, self.of(z).sample().reshape(n, *x.shape[1:]).to(x.dtype)

        def log_joint(x: Tensor, z: Tensor) -> Tensor:
            return prior.log_prob(z).double() + self.log_prob(x, z)

        return Target(log_joint, q, prior, simulate=simulate, precision=self.dtype, mass=mass)

    def _support(self, x: Tensor, q: Distribution) -> Constraint:
        """Where x may lie: all of the data must."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            given = self.of(q.sample())
        if not isinstance(given, Distribution):
            raise UserError(f"likelihood(z) must be a distribution of torch, got a {type(given).__name__}.")
        shape = given.batch_shape + given.event_shape
        if not shape or shape[0] != 1 or shape.numel() != x[0].numel():
            raise UserError(
                f"likelihood(z) of one z is over x of shape {list(shape)}, and one datum has shape "
                f"{list(x[:1].shape)}; they must hold as many numbers."
            )
        assert given.support is not None
        rows = x.reshape(len(x), *shape[1:])
        outside = ~given.support.check(rows).reshape(len(x), -1)
        if bool(outside.any()):
            first = rows.flatten(1)[outside.any(1)][0]
            value = first[~innermost(given.support).check(first)][:1]
            raise UserError(
                f"x holds {(value if len(value) else first)[0].item():.6g}, of which this likelihood has no density; "
                "for a Bernoulli make grey pixels in [0, 1] binary first, by x > 0.5 or by draws, "
                "rng.random(x.shape) < x."
            )
        return given.support


def _standard(q: Distribution) -> Distribution:
    zero = q.sample().new_zeros(q.event_shape).double()
    return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), zero.dim(), validate_args=False)


def _bernoulli(decoder: Callable[[Tensor], Any], output: Output, x_shape: torch.Size, z: Tensor) -> Distribution:
    values = _shaped(decoder(z), z, x_shape)
    if output == "means" and not bool(((values >= 0) & (values <= 1)).all()):
        raise UserError("The decoder gives numbers outside of [0, 1], which are no means of ones; set output='logits'.")
    given = Bernoulli(**{"logits" if output == "logits" else "probs": values}, validate_args=False)
    return Independent(given, len(x_shape), validate_args=False)


def _gaussian(
    decoder: Callable[[Tensor], Any], scale: float | Tensor | None, x_shape: torch.Size, z: Tensor
) -> Distribution:
    answer = decoder(z)
    if isinstance(answer, tuple | list) and len(answer) == 2:
        mean, log_variance = (_shaped(part, z, x_shape) for part in answer)
        deviation = (log_variance / 2).exp()
    elif scale is None:
        raise UserError(
            "likelihood='gaussian' needs the standard deviation of x: scale=1.0, or a decoder that gives mean and "
            "log-variance."
        )
    else:
        mean = _shaped(answer, z, x_shape)
        deviation = torch.as_tensor(scale).to(mean)
    return Independent(Normal(mean, deviation.expand_as(mean), validate_args=False), len(x_shape), validate_args=False)


def _shaped(values: Any, z: Tensor, x_shape: torch.Size) -> Tensor:
    if isinstance(values, Tensor) and values.numel() == len(z) * prod(x_shape):
        return values.reshape(len(z), *x_shape)
    got = f"a tensor of shape {list(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
    raise UserError(
        f"decoder(z) of z {list(z.shape)} must be a tensor of shape {[len(z), *x_shape]}, as a row of the data is, got "
        f"{got}."
    )
