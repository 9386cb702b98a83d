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
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from taut.errors import UserError
from taut.functional import bounds, seeding
from taut.functional.bounds import log_sum_exp
from taut.functional.types import PerDatum

SHOWN = 4
"""Completions of each method in the picture."""

UNIFORM, LEARNED, POSTERIOR = "uniform", "learned q", "posterior"

Draw = Callable[[int, torch.Generator], Float[Tensor, "n m"]]


MOST = 16
"""Hidden pixels; 2^16 = 65,536 completions are enumerated in a moment."""

ROUNDS, PRIOR_COUNT = 100, 0.5


class BernoulliMixture:
    r"""$p(x) = \sum_c \pi_c \prod_i \mathrm{Bernoulli}(x_i; \theta_{ci})$, float64.

    Args:
        log_weights: $\log \pi_c$, ``[c]``.
        logits: Logits of $\theta$, ``[c, d]``.
    """

    def __init__(self, log_weights: Float[Tensor, " c"], logits: Float[Tensor, "c d"]) -> None:
        self.log_weights, self.logits = log_weights, logits

    @classmethod
    def fit(cls, x: Float[Tensor, "n d"], components: int, seed: int) -> "BernoulliMixture":
        """EM from random rows, every pixel with half a count of each colour (Bishop, 2006, section 9.3.3)."""
        generator = torch.Generator().manual_seed(seeding.key(seed, "lecture/model", 0))
        chosen = torch.randperm(len(x), generator=generator)[:components]
        model = cls(x.new_zeros(components), 2 * (2 * x[chosen] - 1))
        for _ in range(ROUNDS):
            r = model.log_table(x).softmax(1)
            counts = r.sum(0)
            # half a count: the logit of 0 or 1 would be infinite
            ones = (r.mT @ x + PRIOR_COUNT) / (counts.unsqueeze(1) + 2 * PRIOR_COUNT)
            model = cls(((counts + PRIOR_COUNT) / (counts + PRIOR_COUNT).sum()).log(), ones.logit())
        return model

    def log_table(self, x: Float[Tensor, "n d"], seen: Bool[Tensor, " d"] | None = None) -> Float[Tensor, "n c"]:
        r"""$\log \pi_c + \sum_{i \in obs} \log p(x_i \mid c)$; over all pixels without a mask."""
        kept = torch.ones_like(self.logits[0]) if seen is None else seen.to(x)
        silent = torch.nn.functional.softplus(self.logits) @ kept
        return self.log_weights + (x * kept) @ self.logits.mT - silent

    def log_prob(self, x: Float[Tensor, "n d"], seen: Bool[Tensor, " d"] | None = None) -> Float[Tensor, " n"]:
        r"""$\log p(x)$, or $\log p(x_{obs})$ with a mask, nats."""
        return log_sum_exp(self.log_table(x, seen).mT)

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Images drawn from the mixture."""
        c = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        return torch.bernoulli(self.logits[c].sigmoid(), generator=generator)

    def complete(
        self, x: Float[Tensor, " d"], seen: Bool[Tensor, " d"], n: int, generator: torch.Generator
    ) -> Float[Tensor, "n m"]:
        """Draws of the hidden pixels given the others: a component from its posterior, then pixels from it."""
        posterior = self.log_table(x.unsqueeze(0), seen)[0].softmax(0)
        c = torch.multinomial(posterior, n, replacement=True, generator=generator)
        return torch.bernoulli(self.logits[c][:, ~seen].sigmoid(), generator=generator)


def completions(m: int) -> Float[Tensor, "n m"]:
    """Every way to fill m binary pixels, 2^m rows; row i holds the binary digits of i.

    Raises:
        UserError: If there are too many to enumerate.
    """
    if not 0 < m <= MOST:
        raise UserError(f"lecture.pixels must be 1 to {MOST}, so that all completions can be summed, got {m}.")
    bits = torch.arange(2**m).unsqueeze(1) >> torch.arange(m)
    return (bits & 1).double()


def number_of(bits: Float[Tensor, "n m"]) -> Tensor:
    """The row of :func:`completions` that each completion is."""
    return (bits.long() << torch.arange(bits.shape[1])).sum(1)


def completed(x: Float[Tensor, " d"], seen: Bool[Tensor, " d"], bits: Float[Tensor, "n m"]) -> Float[Tensor, "n d"]:
    """X with its hidden pixels filled in each way."""
    full = x.expand(len(bits), -1).clone()
    full[:, ~seen] = bits
    return full


def hidden_in_the_middle(pixels: int, height: int, width: int) -> Bool[Tensor, " d"]:
    """The mask, true where observed, that hides the pixels nearest to the middle."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2
    seen = torch.ones(height * width, dtype=torch.bool)
    # stable: pixels at one distance come in the same order everywhere
    seen[distance.flatten().argsort(stable=True)[:pixels]] = False
    return seen


def divergence(log_q: Float[Tensor, "n b"], log_p: Float[Tensor, "n b"]) -> PerDatum:
    r"""$\mathrm{KL}(q \| p)$ of distributions given by all their log-probabilities."""
    return (log_q.exp() * (log_q - log_p)).sum(0)


WIDTH, STEPS, BATCH, LR = 64, 500, 256, 1e-2


class Learned(nn.Module):
    r"""$q(x_{mis} \mid x_{obs}) = \prod_i \mathrm{Bernoulli}(x_i; \sigma(f_i(x_{obs}) + \sum_{j<i} A_{ij} x_j))$.

    Args:
        seen: The mask, true where observed; q is for this one.
    """

    def __init__(self, seen: Bool[Tensor, " d"]) -> None:
        super().__init__()
        self.seen, hidden = seen, int((~seen).sum())
        self.net = nn.Sequential(nn.Linear(len(seen), WIDTH), nn.Tanh(), nn.Linear(WIDTH, hidden))
        self.couplings = nn.Parameter(torch.zeros(hidden, hidden))

    @classmethod
    def fit(cls, model: BernoulliMixture, seen: Bool[Tensor, " d"], seed: int) -> "Learned":
        r"""Maximum likelihood on images drawn from the model: the least $E_x\, \mathrm{KL}(p(x_{mis} | x_{obs}) \| q)$.

        That KL makes q cover all the mass, as importance sampling needs it.
        """
        generator = torch.Generator().manual_seed(seeding.key(seed, "lecture/q", 0))
        with seeding.forked():
            # layers take no generator, so the global one is seeded and put back
            torch.manual_seed(seeding.key(seed, "lecture/q", 1))
            q = cls(seen).double()
        optimizer = torch.optim.Adam(q.parameters(), lr=LR)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            x = model.sample(BATCH, generator)
            bits = x[:, ~seen]
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(q.logits(q.net(x * seen), bits), bits).backward()
            optimizer.step()
            schedule.step()
        return q.requires_grad_(False)

    def logits(self, context: Float[Tensor, "*n m"], bits: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Logits of every pixel given those before it."""
        return context + bits @ self.couplings.tril(-1).mT

    def log_prob(self, x: Float[Tensor, " d"], bits: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
        """Log-probability of completions of one image, nats."""
        logits = self.logits(self.net(x * self.seen), bits)
        return (logits * bits - softplus(logits)).sum(1)

    def draw(self, x: Float[Tensor, " d"], n: int, generator: torch.Generator) -> Float[Tensor, "n m"]:
        """Completions of one image."""
        context, bits = self.net(x * self.seen), x.new_zeros(n, len(self.couplings))
        for i in range(len(context)):
            logit = context[i] + bits[:, :i] @ self.couplings[i, :i]
            bits[:, i] = torch.bernoulli(logit.sigmoid(), generator=generator)
        return bits


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
