"""A training step of the published models without autograd: forward and back by hand.

An MLP encoder to a diagonal q, a standard normal prior and an MLP decoder to Bernoulli or Gaussian cells, under
``elbo``, ``iwae`` or ``dreg`` (:mod:`taut.training.fused_rules`). Everything else is trained by autograd, which this
agrees with to rounding; ``python -m benchmarks.train`` compares the two (``taut's steps, no Lightning`` and ``taut's
steps, by autograd``).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions import bernoulli, diagonal_gaussian
from taut.functional.types import LogWeights, PerDatum
from taut.model.joint import Joint
from taut.model.likelihood.bernoulli import Bernoulli
from taut.model.likelihood.gaussian import Gaussian
from taut.model.networks import MLPDecoder, MLPEncoder, Tanh
from taut.model.prior.normal import Normal
from taut.model.q.base import Posterior
from taut.model.q.diagonal import Diagonal
from taut.objective.base import Objective
from taut.training.fused_rules import RULES, Rows, Rules, drawn, some

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
            by_h, *_ = bernoulli.slopes(gradient, some(h, rows), self.last, sign, some(u, rows), low, out=room)
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
            by_f, by_g = (some(of, rows) for of in by_heads)
            by_output = (torch.stack([by_f, by_g], 2) * gradient[..., None, None]).flatten(2).flatten(0, 1)
            torch.mm(by_output.mT, some(h, rows).flatten(0, 1), out=self.gradients[last])
            torch.sum(by_output, 0, out=self.gradients[made.offset].view(-1))
            return by_output @ last

        return log_px - units, back

    def accepts(self, x: Float[Tensor, "b *x"], binary: bool) -> bool:
        """Tell whether no cell is missing."""
        return binary or not x.isnan().any()


SCORERS: dict[type, Any] = {Bernoulli: Pixels, Gaussian: Heads}
"""What scores x behind the last map, by likelihood."""


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
        latents = drawn(seen[-1], k)
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
