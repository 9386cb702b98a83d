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
from math import log
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from taut.distributions import bernoulli, diagonal_gaussian
from taut.distributions.gaussian import standard_normal
from taut.functional.resampling import resample
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

Rows = Int[Tensor, " m*b"]
Back = Callable[[LogWeights, Rows | None], Float[Tensor, "n h"]]
"""From the gradient by the log-density of each draw, or of some, to that by the decoder's features.

It keeps the gradients of the parameters behind them."""
tanh_backward: Any = torch.ops.aten.tanh_backward.grad_input
MINUS_ONE = torch.tensor(-1.0)


class Step(NamedTuple):
    """What came of a step.

    Args:
        bound: The bound of each datum, nats.
        surrogate: What is minimised.
        gradients: Of the surrogate, by parameter; the next step writes over them.
    """

    bound: PerDatum
    surrogate: Float[Tensor, ""]
    gradients: dict[Tensor, Tensor]


class Latents(NamedTuple):
    """Draws of z, and the q they are from, in the precision of the networks; sums over coordinates in float64.

    Args:
        z: The draws, ``[k, b, d]``.
        noise: Their standard normal noise.
        mean: Of q, ``[b, d]``.
        std: Of q.
        inside: Whether a log-variance moves q: within the limits of ``Diagonal``.
        log_std: Sum of the logarithms of ``std``, ``[b]``.
    """

    z: Float[Tensor, "k b d"]
    noise: Float[Tensor, "k b d"]
    mean: Float[Tensor, "b d"]
    std: Float[Tensor, "b d"]
    inside: Bool[Tensor, "b d"]
    log_std: PerDatum

    @property
    def log_ratio(self) -> LogWeights:
        r"""$\log p(z) - \log q(z \mid x)$: what the two have in common is not there to be lost."""
        return torch.add(self.log_std, _squares(self.noise) - _squares(self.z), alpha=0.5)

    def at(self, rows: Rows) -> "Latents":
        """Some of the draws, equally many of each datum."""
        return self._replace(z=_some(self.z, rows), noise=_some(self.noise, rows))


def fused_step(joint: Joint, q: Posterior, objective: Objective) -> "FusedStep | None":
    """The step of a composition that has one; None for all others, which are trained by autograd."""
    rule = RULES.get(type(objective))
    scorer = SCORERS.get(type(joint.likelihood))
    # their own types, not those of subclasses, which may compute something else
    if rule is None or scorer is None or type(joint.prior) is not Normal:
        return None
    if objective.outer > 1:
        return None
    likelihood: Any = joint.likelihood
    if type(q) is not Diagonal or type(q.encoder) is not MLPEncoder or type(likelihood.decoder) is not MLPDecoder:
        return None
    if not _plain([*joint.modules(), *q.modules()]) or getattr(likelihood, "shared", False):
        return None
    gradients = Gradients()
    encoder = Layers([*q.encoder.net.children()], gradients)
    decoder = Layers([*likelihood.decoder.net.children()][:-1], gradients)
    scored = scorer(likelihood, likelihood.decoder.last, gradients)
    return FusedStep(q, encoder, decoder, scored, objective, rule, gradients)


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


class Room:
    """Rows to write into, kept from one step to the next: fresh memory is neither in a cache nor free.

    Args:
        width: Numbers of a row.
    """

    def __init__(self, width: int) -> None:
        self._kept = torch.empty(0, width)

    def rows(self, n: int) -> Float[Tensor, "n w"]:
        """So many of them."""
        kept = self._kept
        if kept.shape[0] < n:
            kept = self._kept = torch.empty(n, kept.shape[1])
        return kept if kept.shape[0] == n else kept[:n]


class Gradients(dict[Tensor, Tensor]):
    """The gradient of each parameter, written over by each step."""

    def __missing__(self, parameter: Tensor) -> Tensor:
        with torch.inference_mode(False):  # clipping changes them outside of a step
            self[parameter] = torch.empty_like(parameter)
        return self[parameter]


class Layer(NamedTuple):
    """A linear layer.

    Args:
        weight: Its matrix.
        bias: What is added.
        tanh: Whether a tanh is behind it.
        output: Where its output is written.
        input: Where the gradient by what enters it is.
    """

    weight: Float[Tensor, "o i"]
    bias: Float[Tensor, " o"]
    tanh: bool
    output: Room
    input: Room


class Layers:
    r"""Linear layers, each with a tanh behind it where it has one, as $\tanh a = 2 \sigma(2 a) - 1$.

    That is off by two roundings of 1 at most and takes a fifth of the time; the product doubles a for nothing.

    Args:
        modules: Those of an MLP, in turn.
        gradients: Where to write.
    """

    def __init__(self, modules: Sequence[nn.Module], gradients: Gradients) -> None:
        self.gradients = gradients
        self.layers = [
            Layer(layer.weight, layer.bias, isinstance(after, Tanh), Room(layer.out_features), Room(layer.in_features))
            for layer, after in pairwise([*modules, None])
            if isinstance(layer, nn.Linear)
        ]

    def forward(self, value: Float[Tensor, "n i"]) -> list[Tensor]:
        """What enters each layer, and the output of the last."""
        values, n = [value], value.shape[0]
        for weight, bias, tanh, output, _ in self.layers:
            out = output.rows(n)
            if tanh:
                torch.addmm(bias, values[-1], weight.mT, beta=2, alpha=2, out=out).sigmoid_()
                torch.add(MINUS_ONE, out, alpha=2, out=out)
            else:
                torch.addmm(bias, values[-1], weight.mT, out=out)
            values.append(out)
        return values

    def backward(self, by_output: Float[Tensor, "n o"], values: list[Tensor], *, to_input: bool) -> Tensor:
        """The gradient by what enters the first layer, or by its output; writes over that by the output of the last."""
        by, n = by_output, by_output.shape[0]
        for number in range(len(self.layers) - 1, -1, -1):
            weight, bias, tanh, _, by_input = self.layers[number]
            if tanh:
                tanh_backward(by, values[number + 1], grad_input=by)
            torch.mm(by.mT, values[number], out=self.gradients[weight])
            torch.sum(by, 0, out=self.gradients[bias])
            if number or to_input:
                by = torch.mm(by, weight, out=by_input.rows(n))
        return by


class Pixels:
    """Binary pixels behind the last map of a decoder."""

    def __init__(self, likelihood: Bernoulli, last: Tensor, gradients: Gradients) -> None:
        self.offset, self.last, self.gradients = likelihood.offset, last, gradients
        self.room = Room(len(last))

    def score(self, x: Float[Tensor, "b *x"], h: Float[Tensor, "k b h"]) -> tuple[LogWeights, Back]:
        """The log-density of x for each draw, and its way back."""
        sign = bernoulli.signs(x.flatten(1).to(h.dtype), whole=True)
        room = self.room.rows(h.shape[0] * h.shape[1])
        log_px, u, low = bernoulli.scored(h, self.last, self.offset.flatten(), sign, whole=True, out=room)

        def back(gradient: LogWeights, rows: Rows | None) -> Tensor:
            room = self.gradients[self.last], self.gradients[self.offset].view(-1)
            by_h, *_ = bernoulli.slopes(gradient, _some(h, rows), self.last, sign, _some(u, rows), low, out=room)
            return by_h.flatten(0, 1)

        return log_px, back

    def accepts(self, x: Float[Tensor, "b *x"], binary: bool) -> bool:
        """Tell whether all pixels are zeros and ones."""
        if binary:
            return True
        grey = torch.addcmul(x, x, x, value=-1).flatten()
        return torch.dot(grey, grey).item() == 0  # NaN, and infinity minus infinity, are not


class Heads:
    """Gaussian cells whose mean and variance are two heads of a decoder."""

    def __init__(self, likelihood: Gaussian, last: Tensor, gradients: Gradients) -> None:
        self.likelihood, self.last, self.gradients = likelihood, last, gradients

    def score(self, x: Float[Tensor, "b *x"], h: Float[Tensor, "k b h"]) -> tuple[LogWeights, Back]:
        """The log-density of x for each draw, and its way back."""
        made, last = self.likelihood, self.last
        r, units = diagonal_gaussian.in_units(x, made.shift, made.scale, h.dtype)
        output = torch.addmm(made.offset.flatten(), h.flatten(0, 1), last.mT).view(*h.shape[:2], 2, -1)
        f, g = output.unbind(2)
        log_px, *by_heads = diagonal_gaussian.scored(f, g, r, made.min_variance, slopes=True)

        def back(gradient: LogWeights, rows: Rows | None) -> Tensor:
            by_f, by_g = (_some(of, rows) for of in by_heads)
            by_output = (torch.stack([by_f, by_g], 2) * gradient[..., None, None]).flatten(2).flatten(0, 1)
            torch.mm(by_output.mT, _some(h, rows).flatten(0, 1), out=self.gradients[last])
            torch.sum(by_output, 0, out=self.gradients[made.offset].view(-1))
            return by_output @ last

        return log_px - units, back

    def accepts(self, x: Float[Tensor, "b *x"], binary: bool) -> bool:
        """Tell whether no cell is missing."""
        return binary or not x.isnan().any()


def _some(of: Float[Tensor, "k b w"], rows: Rows | None) -> Float[Tensor, "m b w"]:
    """What belongs to some of the draws, or to all."""
    return of if rows is None else of.flatten(0, 1).index_select(0, rows).view(-1, *of.shape[1:])


SCORERS: dict[type, Any] = {Bernoulli: Pixels, Gaussian: Heads}
"""What scores x behind the last map, by likelihood."""


def _drawn(parameters: Float[Tensor, "b o"], k: int) -> Latents:
    """Draws from q, whose numbers are those of ``Diagonal``."""
    mean, log_variance = parameters.chunk(2, -1)
    kept = log_variance.clamp(-LIMIT, LIMIT)
    half = 0.5 * kept
    std = half.exp()
    noise = standard_normal(torch.Size((k, *mean.shape)), parameters.dtype, mean.device)
    log_std = half.sum(-1, dtype=torch.float64)
    return Latents(torch.addcmul(mean, noise, std), noise, mean, std, kept == log_variance, log_std)


class Rule(NamedTuple):
    """The gradient of a surrogate.

    Args:
        bound: What is reported of each datum.
        surrogate: Its value.
        weights: Gradient by the log p(x | z) of each draw that it goes back through.
        by_q: Of the gradient by z through log p(x | z), that by the mean and the log-variance of q, ``[b, 2 d]``.
        rows: Those draws, among all ``[k * b]`` in turn; None for all.
    """

    bound: PerDatum
    surrogate: Float[Tensor, ""]
    weights: LogWeights
    by_q: Callable[[Float[Tensor, "k b d"]], Float[Tensor, "b o"]]
    rows: Rows | None = None


class Weights(NamedTuple):
    r"""What the weights of some draws come to.

    Args:
        log_w: Logarithms of those that the gradient goes back through.
        bound: $\log \frac1K \sum_k w_k$ of each datum, from all draws.
        shares: $\tilde w_k = w_k / \sum_j w_j$ of those draws, without traces.
        counts: How much each counts: $\tilde w_k$, or where they are few among all what is that on average.
        latents: Those draws.
        rows: Where they stand among all; None where they are all.
    """

    log_w: LogWeights
    bound: PerDatum
    shares: LogWeights
    counts: LogWeights
    latents: Latents
    rows: Rows | None = None

    @classmethod
    def of(cls, log_w: LogWeights, latents: Latents, few: int | None) -> "Weights":
        """All from one exponential; the gradient goes back through few of the draws, where there are more."""
        k, b = log_w.shape
        if k == 1:
            ones = torch.ones_like(log_w)
            return cls(log_w, log_w[0], ones, ones, latents)
        top = log_w.amax(0)
        shares = (log_w - top).exp_()
        total = shares.sum(0)
        bound, shares = total.log() + (top - log(k)), without_traces(shares.div_(total))
        if few is None or few >= k:
            return cls(log_w, bound, shares, shares, latents)
        # the random numbers are those of the ordinary step
        index, counts = resample(shares, few, torch.rand(b))
        rows = torch.add(torch.arange(b), index, alpha=b).flatten()
        return cls(log_w.gather(0, index), bound, shares.gather(0, index), counts, latents.at(rows), rows)


def _of_iwae(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    weights = Weights.of(torch.add(log_px, log_ratio, alpha=beta), latents, objective.backward)
    bound = weights.bound if beta == 1 else objective.bound(log_px + log_ratio)
    surrogate = -(weights.bound if weights.rows is None else (weights.counts * weights.log_w).sum(0)).mean()
    return _reparameterised(bound, surrogate, weights.counts, weights.latents, beta, weights.rows)


def _of_dreg(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    weights = Weights.of(torch.add(log_px, log_ratio, alpha=beta), latents, objective.backward)
    bound = weights.bound if beta == 1 else objective.bound(log_px + log_ratio)
    surrogate, some = -(weights.counts * weights.log_w).sum(0).mean(), weights.latents
    by_log_w = weights.counts.float() / -len(bound)
    factor = 1 - beta + beta * weights.shares.float()

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, by_log_w[..., None], some.noise / some.std - some.z, value=beta)
        return _by_mean_and_log_variance(path * factor[..., None], some, 0.0)

    return Rule(bound, surrogate, by_log_w, by_q, weights.rows)


def _of_elbo(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    assert isinstance(objective, Elbo)
    bound, equal = (log_px + log_ratio).mean(0), torch.full_like(log_px, 1 / len(log_px))
    if objective.kl == "sampled":
        return _reparameterised(bound, -torch.add(log_px, log_ratio, alpha=beta).mean(), equal, latents, beta)
    rows, mean, variance = log_px.shape[1], latents.mean.double(), latents.std.double().square()
    kl = 0.5 * (variance + mean.square() - 1).sum(-1) - latents.log_std

    def by_q(by_z: Tensor) -> Tensor:
        of_kl = torch.cat([mean, 0.5 * (variance - 1) * latents.inside], -1).float() * (beta / rows)
        return _by_mean_and_log_variance(by_z, latents, 0.0).add_(of_kl)

    return Rule(bound, (beta * kl - log_px.double().mean(0)).mean(), equal.float() / -rows, by_q)


Rules = Callable[[Objective, LogWeights, LogWeights, Latents, float], Rule]
RULES: dict[type, Rules] = {Elbo: _of_elbo, Iwae: _of_iwae, Dreg: _of_dreg}
"""The gradient, by objective."""


def _reparameterised(
    bound: PerDatum, surrogate: Tensor, counts: LogWeights, latents: Latents, beta: float, rows: Rows | None = None
) -> Rule:
    weights = counts.float() / -len(bound)

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, weights[..., None], latents.z, value=-beta)
        return _by_mean_and_log_variance(path, latents, -beta / len(bound))  # counts add up to 1

    return Rule(bound, surrogate, weights, by_q, rows)


def _by_mean_and_log_variance(
    by_z: Float[Tensor, "k b d"], latents: Latents, by_entropy: float
) -> Float[Tensor, "b o"]:
    """Both from the gradient by z, and for the log-variance half of that by the entropy of q."""
    by_log_std = (by_z * latents.noise).sum(0).mul_(latents.std).add_(by_entropy).mul_(0.5).mul_(latents.inside)
    return torch.cat([by_z.sum(0), by_log_std], -1)


def _squares(value: Float[Tensor, "k b d"]) -> LogWeights:
    return torch.linalg.vecdot(value, value).double()


class FusedStep:
    """The step of one model.

    Args:
        q: A diagonal one.
        encoder: Its layers.
        decoder: All layers of the decoder but the last map.
        scorer: The last map and the density behind it.
        objective: Whose bound is reported.
        rule: Its gradient.
        gradients: What they all write into.
    """

    binary = False
    """Whether all data are known to be zeros and ones, so that no batch need be looked at."""

    def __init__(
        self,
        q: Diagonal,
        encoder: Layers,
        decoder: Layers,
        scorer: Pixels | Heads,
        objective: Objective,
        rule: Rules,
        gradients: Gradients,
    ) -> None:
        self.q, self.encoder, self.decoder, self.scorer = q, encoder, decoder, scorer
        self.objective, self.rule, self.gradients = objective, rule, gradients

    @torch.inference_mode()
    def __call__(self, x: Float[Tensor, "b *x"], k: int, kl_weight: float) -> Step | None:
        """The surrogate's value and gradient; None for a batch that autograd must see: with missing cells, or grey.

        Args:
            x: The batch.
            k: Number of draws K.
            kl_weight: Weight of the KL in what is minimised.
        """
        if not self.scorer.accepts(x, self.binary):
            return None
        inputs = x if x.dim() > 2 else self.q.inputs(x)  # nothing is missing, and pixels enter as they are
        seen = self.encoder.forward(inputs.flatten(1).float())
        latents = _drawn(seen[-1], k)
        features = self.decoder.forward(latents.z.flatten(0, 1))
        log_px, back = self.scorer.score(x, features[-1].view(k, len(x), -1))
        rule = self.rule(self.objective, log_px, latents.log_ratio, latents, kl_weight)
        by_features = back(rule.weights, rule.rows)
        if rule.rows is not None:
            features = [value.index_select(0, rule.rows) for value in features]
        by_z = self.decoder.backward(by_features, features, to_input=True)
        by_q = rule.by_q(by_z.view(-1, *latents.mean.shape))
        self.encoder.backward(by_q, seen, to_input=False)
        return Step(rule.bound, rule.surrogate, self.gradients)
