r"""A training step of the published models without autograd: forward and back by hand.

For an MLP encoder to a diagonal q, a standard normal prior and an MLP decoder to Bernoulli or Gaussian cells, under
``elbo``, ``iwae`` or ``dreg``, the gradient is short enough to write down. With $z_k = m + e^{s/2} \odot \epsilon_k$,
weights $r_k$ of the draws ($\tilde w_k$, or $1/K$ under ``elbo``) and $g_k = \nabla_z \log p(x \mid z_k)$,

$$\nabla_m = \textstyle\sum_k r_k\,(g_k - \beta z_k), \qquad
  \nabla_s = \tfrac12 e^{s/2} \odot \textstyle\sum_k r_k\,(g_k - \beta z_k) \odot \epsilon_k + \tfrac{\beta}2,$$

for ``iwae`` and the sampled ELBO, as $\log q(z_k \mid x)$ depends on $s$ alone once $\epsilon_k$ is given; with the
closed form of the KL (``elbo``), $\sum_k r_k g_k$ takes the place of the first factor, and $-\beta m$ and
$\frac\beta2 (1 - e^{s})$ that of the last terms; and with
$c_k = 1 - \beta + \beta \tilde w_k$ (``dreg``, Tucker et al., 2019),

$$\nabla_m = \textstyle\sum_k c_k \tilde w_k\,(g_k - \beta z_k + \beta e^{-s/2} \odot \epsilon_k), \qquad
  \nabla_s = \tfrac12 e^{s/2} \odot \textstyle\sum_k c_k \tilde w_k\,(\ldots) \odot \epsilon_k.$$

Everything else is trained by autograd, which this agrees with to rounding; ``python -m benchmarks.train`` compares the
two (``taut's steps, no Lightning`` and ``taut's steps, by autograd``).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions import bernoulli, diagonal_gaussian
from taut.distributions.gaussian import standard_normal
from taut.functional.bounds import normalised_weights
from taut.functional.types import LogWeights, PerDatum
from taut.model.draws import without_traces
from taut.model.joint import Joint
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.gaussian import Gaussian
from taut.model.networks import MLPDecoder, MLPEncoder, Tanh
from taut.model.prior.normal import Normal
from taut.model.q.base import Posterior
from taut.model.q.diagonal import LIMIT, Diagonal
from taut.objective.base import Objective
from taut.objective.dreg import Dreg
from taut.objective.elbo import Elbo
from taut.objective.iwae import Iwae

Gradients = dict[Tensor, Tensor]
Back = Callable[[LogWeights], tuple[Float[Tensor, "k b h"], Gradients]]
"""Gradients by the decoder's features, and by the parameters behind them, from that by each draw's log-density."""
tanh_backward: Any = torch.ops.aten.tanh_backward


class Step(NamedTuple):
    """What came of a step.

    Args:
        bound: The bound of each datum, nats.
        surrogate: What is minimised.
        gradients: Of the surrogate, by parameter.
    """

    bound: PerDatum
    surrogate: Float[Tensor, ""]
    gradients: Gradients


class Latents(NamedTuple):
    """Draws of z, and the q they are from, in float64.

    Args:
        z: The draws, ``[k, b, d]``.
        noise: Their standard normal noise.
        mean: Of q, ``[b, d]``.
        std: Of q.
        log_std: Sum of its logarithms, ``[b]``.
    """

    z: Float[Tensor, "k b d"]
    noise: Float[Tensor, "k b d"]
    mean: Float[Tensor, "b d"]
    std: Float[Tensor, "b d"]
    log_std: PerDatum

    @property
    def log_ratio(self) -> LogWeights:
        r"""$\log p(z) - \log q(z \mid x)$: what the two have in common is not there to be lost."""
        return 0.5 * (_squares(self.noise) - _squares(self.z)) + self.log_std


def fused_step(joint: Joint, q: Posterior, objective: Objective) -> "FusedStep | None":
    """The step of a composition that has one; None for all others, which are trained by autograd."""
    rule = RULES.get(type(objective))
    scorer = SCORERS.get(type(joint.likelihood))
    # their own types, not those of subclasses, which may compute something else
    if rule is None or scorer is None or objective.backward is not None or type(joint.prior) is not Normal:
        return None
    likelihood: Any = joint.likelihood
    if type(q) is not Diagonal or type(q.encoder) is not MLPEncoder or type(likelihood.decoder) is not MLPDecoder:
        return None
    if not _plain([*joint.modules(), *q.modules()]) or getattr(likelihood, "shared", False):
        return None
    encoder, decoder = Layers([*q.encoder.net.children()]), Layers([*likelihood.decoder.net.children()][:-1])
    return FusedStep(q, encoder, decoder, scorer(likelihood, likelihood.decoder.last), objective, rule)


def _plain(modules: Sequence[nn.Module]) -> bool:
    """Tell whether layers are those of a tanh MLP in single precision on a CPU, and nobody listens to them."""
    parameters = [parameter for module in modules for parameter in module.parameters(recurse=False)]
    layers = [layer for module in modules for layer in module.children() if isinstance(module, nn.Sequential)]
    listened = any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules
    )
    return (
        all(p.requires_grad and p.dtype == torch.float32 and p.device.type == "cpu" for p in parameters)
        and all(type(layer) in (nn.Linear, Tanh) for layer in layers)
        and not listened
        and not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters)
    )


class Layers:
    """Linear layers, each with a tanh behind it where it has one.

    Args:
        modules: Those of an MLP, in turn.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        pairs = pairwise([*modules, None])
        self.linear = [(layer, isinstance(after, Tanh)) for layer, after in pairs if isinstance(layer, nn.Linear)]

    def forward(self, value: Float[Tensor, "n i"]) -> list[Tensor]:
        """What enters each layer, and the output of the last."""
        values = [value]
        for layer, tanh in self.linear:
            output = torch.addmm(layer.bias, values[-1], layer.weight.mT)
            values.append(output.tanh_() if tanh else output)
        return values

    def backward(
        self, by_output: Float[Tensor, "n o"], values: list[Tensor], *, to_input: bool
    ) -> tuple[Tensor, Gradients]:
        """Gradients by what enters the first layer, or by its output, and by the parameters."""
        gradients: Gradients = {}
        by = by_output
        for number, (layer, tanh) in reversed(list(enumerate(self.linear))):
            if tanh:
                by = tanh_backward(by, values[number + 1])
            gradients |= {layer.weight: by.mT @ values[number], layer.bias: by.sum(0)}
            if number or to_input:
                by = by @ layer.weight
        return by, gradients


class Pixels:
    """Binary pixels behind the last map of a decoder."""

    def __init__(self, likelihood: Bernoulli, last: Tensor) -> None:
        self.likelihood, self.last = likelihood, last

    def score(self, x: Float[Tensor, "b *x"], h: Float[Tensor, "k b h"]) -> tuple[LogWeights, Back]:
        """The log-density of x for each draw, and its way back."""
        offset, last = self.likelihood.offset, self.last
        sign = bernoulli.signs(x.flatten(1).to(h.dtype), whole=True)
        log_px, u, low = bernoulli.scored(h, last, offset.flatten(), sign, whole=True)

        def back(gradient: LogWeights) -> tuple[Tensor, Gradients]:
            by_h, by_last, by_offset = bernoulli.slopes(gradient, h, last, sign, u, low)
            return by_h, {last: by_last, offset: by_offset.view_as(offset)}

        return log_px, back

    def accepts(self, x: Float[Tensor, "b *x"]) -> bool:
        """Tell whether all pixels are zeros and ones."""
        return not (x - x * x).any()  # NaN, and infinity minus infinity, are true


class Heads:
    """Gaussian cells whose mean and variance are two heads of a decoder."""

    def __init__(self, likelihood: Gaussian, last: Tensor) -> None:
        self.likelihood, self.last = likelihood, last

    def score(self, x: Float[Tensor, "b *x"], h: Float[Tensor, "k b h"]) -> tuple[LogWeights, Back]:
        """The log-density of x for each draw, and its way back."""
        made, last = self.likelihood, self.last
        r, units = diagonal_gaussian.in_units(x, made.shift, made.scale, h.dtype)
        output = torch.addmm(made.offset.flatten(), h.flatten(0, 1), last.mT).view(*h.shape[:2], 2, -1)
        f, g = output.unbind(2)
        log_px, *by_heads = diagonal_gaussian.scored(f, g, r, made.min_variance, slopes=True)

        def back(gradient: LogWeights) -> tuple[Tensor, Gradients]:
            by_output = (torch.stack(by_heads, 2) * gradient[..., None, None]).flatten(2).flatten(0, 1)
            gradients = {last: by_output.mT @ h.flatten(0, 1), made.offset: by_output.sum(0).view_as(made.offset)}
            return (by_output @ last).view_as(h), gradients

        return log_px - units, back

    def accepts(self, x: Float[Tensor, "b *x"]) -> bool:
        """Tell whether no cell is missing."""
        return not x.isnan().any()


SCORERS: dict[type, Any] = {Bernoulli: Pixels, Gaussian: Heads}
"""What scores x behind the last map, by likelihood."""


def _drawn(parameters: Float[Tensor, "b o"], k: int) -> tuple[Latents, Float[Tensor, "b d"]]:
    """Draws from q, and 1 where a log-variance moves it: within the limits of ``Diagonal``, whose numbers these are."""
    mean, log_variance = parameters.chunk(2, -1)
    kept = log_variance.clamp(-LIMIT, LIMIT)
    mean, std = mean.double(), (0.5 * kept).exp_().double()
    noise = standard_normal(torch.Size((k, *mean.shape)), parameters.dtype, mean.device).double()
    return Latents(torch.addcmul(mean, noise, std), noise, mean, std, std.log().sum(-1)), kept == log_variance


class Rule(NamedTuple):
    """The gradient of a surrogate.

    Args:
        surrogate: Its value.
        weights: Gradient by each draw's log p(x | z).
        by_q: Of the gradient by z through log p(x | z), that by the mean and the log-variance of q, ``[b, 2 d]``.
    """

    surrogate: Float[Tensor, ""]
    weights: LogWeights
    by_q: Callable[[Float[Tensor, "k b d"]], Float[Tensor, "b o"]]


def _of_iwae(objective: Objective, log_px: LogWeights, latents: Latents, beta: float) -> Rule:
    log_w = log_px + beta * latents.log_ratio
    return _reparameterised(-objective.bound(log_w).mean(), _shares(log_w), latents, beta)


def _of_dreg(objective: Objective, log_px: LogWeights, latents: Latents, beta: float) -> Rule:
    del objective
    log_w = log_px + beta * latents.log_ratio
    shares = _shares(log_w)
    weights = shares / -log_w.shape[1]

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, beta * weights[..., None], latents.noise / latents.std - latents.z)
        return _by_mean_and_log_variance(path * (1 - beta + beta * shares)[..., None], latents)

    return Rule(-(shares * log_w).sum(0).mean(), weights, by_q)


def _of_elbo(objective: Objective, log_px: LogWeights, latents: Latents, beta: float) -> Rule:
    assert isinstance(objective, Elbo)
    equal = torch.full_like(log_px, 1 / len(log_px))
    if objective.kl == "sampled":
        return _reparameterised(-(log_px + beta * latents.log_ratio).mean(), equal, latents, beta)
    rows, mean, variance = log_px.shape[1], latents.mean, latents.std.square()
    kl = 0.5 * (variance + mean.square() - 1).sum(-1) - latents.log_std

    def by_q(by_z: Tensor) -> Tensor:
        of_kl = torch.cat([mean, 0.5 * (variance - 1)], -1) * (beta / rows)
        return _by_mean_and_log_variance(by_z, latents) + of_kl

    return Rule((beta * kl - log_px.mean(0)).mean(), equal / -rows, by_q)


Rules = Callable[[Objective, LogWeights, Latents, float], Rule]
RULES: dict[type, Rules] = {Elbo: _of_elbo, Iwae: _of_iwae, Dreg: _of_dreg}
"""The gradient, by objective."""


def _reparameterised(surrogate: Tensor, shares: LogWeights, latents: Latents, beta: float) -> Rule:
    weights = shares / -shares.shape[1]

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, beta * weights[..., None], latents.z, value=-1)
        found = _by_mean_and_log_variance(path, latents)
        found[:, latents.mean.shape[1] :] += 0.5 * beta * weights.sum(0)[:, None]
        return found

    return Rule(surrogate, weights, by_q)


def _by_mean_and_log_variance(by_z: Float[Tensor, "k b d"], latents: Latents) -> Float[Tensor, "b o"]:
    return torch.cat([by_z.sum(0), (0.5 * latents.std) * (by_z * latents.noise).sum(0)], -1)


def _shares(log_w: LogWeights) -> LogWeights:
    shares = normalised_weights(log_w)
    return without_traces(shares) if len(shares) > 1 else shares


def _squares(value: Float[Tensor, "k b d"]) -> LogWeights:
    return torch.linalg.vecdot(value, value)


class FusedStep:
    """The step of one model.

    Args:
        q: A diagonal one.
        encoder: Its layers.
        decoder: All layers of the decoder but the last map.
        scorer: The last map and the density behind it.
        objective: Whose bound is reported.
        rule: Its gradient.
    """

    def __init__(
        self, q: Diagonal, encoder: Layers, decoder: Layers, scorer: Pixels | Heads, objective: Objective, rule: Rules
    ) -> None:
        self.q, self.encoder, self.decoder, self.scorer = q, encoder, decoder, scorer
        self.objective, self.rule = objective, rule

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b *x"], k: int, kl_weight: float) -> Step | None:
        """The surrogate's value and gradient; None for a batch that autograd must see: with missing cells, or grey.

        Args:
            x: The batch.
            k: Number of draws K.
            kl_weight: Weight of the KL in what is minimised.
        """
        if not self.scorer.accepts(x):
            return None
        seen = self.encoder.forward(self.q.inputs(x).flatten(1).float())
        latents, inside = _drawn(seen[-1], k)
        features = self.decoder.forward(latents.z.float().flatten(0, 1))
        log_px, back = self.scorer.score(x, features[-1].view(k, len(x), -1))
        log_w = log_px.double() + latents.log_ratio
        rule = self.rule(self.objective, log_px.double(), latents, kl_weight)
        by_features, gradients = back(rule.weights.float())
        by_z, of_decoder = self.decoder.backward(by_features.flatten(0, 1), features, to_input=True)
        by_q = rule.by_q(by_z.view_as(latents.z).double())
        by_q[:, latents.mean.shape[1] :].mul_(inside)
        _, of_encoder = self.encoder.backward(by_q.float(), seen, to_input=False)
        return Step(self.objective.bound(log_w), rule.surrogate, gradients | of_decoder | of_encoder)
