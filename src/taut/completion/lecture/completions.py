"""A mixture of Bernoullis, for which p(x_obs) is known in closed form and as a sum over every completion."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from taut.errors import UserError
from taut.functional import seeding
from taut.functional.bounds import log_sum_exp
from taut.functional.types import PerDatum

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
