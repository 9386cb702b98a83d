"""A learned distribution over completions: pixel by pixel, each given the observed ones and those filled before."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from taut.completion.enumerate import BernoulliMixture
from taut.functional import seeding

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
        """Of every pixel given those before it."""
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
