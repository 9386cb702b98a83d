r"""The lecture's argument on a model where everything can be summed.

Some pixels are marked "?", and $p(x_{obs}) = \sum_{x_{mis}} p(x_{obs}, x_{mis})$ runs over every way to fill them. Take
K completions instead: uniform ones miss the mass; those of a q weighted by $p(x_{obs}, x_{mis}) / q(x_{mis})$ are
unbiased for $p(x_{obs})$. The logarithm of such an estimate lies below $\log p(x_{obs})$ on average (Jensen); for K = 1
by exactly $\mathrm{KL}(q \| p(x_{mis} \mid x_{obs}))$, which is 0 for the posterior.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taut.completion.lecture.completions import (
    BernoulliMixture,
    Learned,
    completed,
    completions,
    divergence,
    hidden_in_the_middle,
    number_of,
)
from taut.functional import bounds, seeding

SHOWN = 4
"""Completions of each method in the picture."""

UNIFORM, LEARNED, POSTERIOR = "uniform", "learned q", "posterior"

Draw = Callable[[int, torch.Generator], Float[Tensor, "n m"]]


@dataclass(frozen=True)
class Method:
    """One way to choose completions, measured on every image.

    Args:
        gap: Exact KL from the posterior, nats, ``[b]``: the gap at K = 1.
        error: Log-estimate minus log p(x_obs) at every K, for every repetition and image, ``[sizes, r, b]``.
        ess: Effective share of the completions at the largest K, ``[b]``.
        shown: A few completions of the first image, ``[4, h, w]``.
    """

    gap: Float[Tensor, " b"]
    error: Float[Tensor, "sizes r b"]
    ess: Float[Tensor, " b"]
    shown: Float[Tensor, "s h w"]


@dataclass(frozen=True)
class Lecture:
    """Estimates of log p(x_obs) by every method, beside the exact value.

    Args:
        sizes: The numbers of completions K.
        pixels: Number of hidden pixels m.
        exact: log p(x_obs) of every image, in closed form.
        summed: The same as the sum over all 2^m completions.
        methods: By name.
        image: The first image, ``[h, w]``.
        seen: The mask, true where observed, ``[h, w]``.
    """

    sizes: list[int]
    pixels: int
    exact: Float[Tensor, " b"]
    summed: Float[Tensor, " b"]
    methods: dict[str, Method]
    image: Float[Tensor, "h w"]
    seen: Bool[Tensor, "h w"]


def lecture(
    train: Float[Tensor, "n h w"],
    images: Float[Tensor, "b h w"],
    *,
    components: int,
    pixels: int,
    k: int,
    repetitions: int,
    seed: int,
) -> Lecture:
    """Sum, sample and compare.

    Args:
        train: Binary images to fit the mixture and q to.
        images: Binary images to hide pixels of.
        components: Number of components of the mixture.
        pixels: Number of hidden pixels m, at most 16, in the middle.
        k: The largest number of completions K.
        repetitions: Estimates of each K for each image.
        seed: Seed of everything that is drawn.

    Raises:
        UserError: If there are too many hidden pixels.
    """
    height, width = train.shape[1:]
    every, seen = completions(pixels), hidden_in_the_middle(pixels, height, width)
    rows, x = train.flatten(1).double(), images.flatten(1).double()
    model = BernoulliMixture.fit(rows, components, seed)
    q = Learned.fit(model, seen, seed)
    log_p = torch.stack([model.log_prob(completed(one, seen, every)) for one in x], 1)  # [2^m, b]
    summed, exact = bounds.log_sum_exp(log_p), model.log_prob(x, seen)
    log_qs = {
        UNIFORM: torch.full_like(log_p, -pixels * torch.tensor(2.0).log().item()),
        LEARNED: torch.stack([q.log_prob(one, every) for one in x], 1),
        POSTERIOR: log_p - summed,
    }
    sizes = bounds.block_sizes(k)
    methods = {}
    for name, log_q in log_qs.items():
        draws = [_draw(name, model, q, one, seen) for one in x]
        keys = [seeding.key(seed, f"lecture/{name}", i) for i in range(len(x))]
        index = torch.stack([_numbers(d, repetitions * k, s) for d, s in zip(draws, keys, strict=True)], 1)
        log_w = (log_p - log_q).gather(0, index).unflatten(0, (repetitions, k)).movedim(1, 0)  # [k, r, b]
        error = torch.stack([bounds.iwae(log_w[:size].flatten(1)) for size in sizes]).unflatten(1, log_w.shape[1:])
        ess = bounds.effective_sample_size(log_w.flatten(1)).unflatten(0, log_w.shape[1:]).mean(0) / k
        shown = completed(x[0], seen, every[index[:SHOWN, 0]]).view(-1, height, width)
        methods[name] = Method(divergence(log_q, log_p - summed), error - exact, ess, shown)
    return Lecture(sizes, pixels, exact, summed, methods, images[0], seen.view(height, width))


def _draw(name: str, model: BernoulliMixture, q: "Learned", x: Tensor, seen: Tensor) -> Draw:
    """The sampler by which a method completes one image."""
    if name == UNIFORM:
        half = torch.full((int((~seen).sum()),), 0.5, dtype=x.dtype)
        return lambda n, generator: torch.bernoulli(half.expand(n, -1), generator=generator)
    if name == LEARNED:
        return lambda n, generator: q.draw(x, n, generator)
    return lambda n, generator: model.complete(x, seen, n, generator)


def _numbers(draw: Draw, n: int, seed: int) -> Int[Tensor, " n"]:
    return number_of(draw(n, torch.Generator().manual_seed(seed)))
