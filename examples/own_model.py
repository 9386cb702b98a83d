"""How tight is the bound of a VAE that knows nothing of taut? Nothing here is of Lightning, Hydra or W&B.

Run it with ``python examples/own_model.py``; it takes some seconds.
"""

from collections.abc import Iterable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from taut.evidence import AIS, BDMC, UK, Importance, LogEvidence, Naive, Rows, Struski, Target, gap
from taut.evidence.diagnostics import reliability_warnings
from taut.evidence.optimal_q import Family, Search

PIXELS, LATENTS, HIDDEN = 64, 8, 128


class VAE(nn.Module):
    """A variational autoencoder as anybody would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the ELBO of each image, from one z."""
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        distortion = binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(-1)
        return distortion + (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1) / 2


def binary_digits() -> tuple[Tensor, Tensor]:
    """Images of 8 x 8 black and white pixels: for training, and held out."""
    images = torch.as_tensor(load_digits(return_X_y=True)[0] >= 8).float()
    images = images[torch.randperm(len(images))]
    return images[:1500], images[1500:]


def fit(vae: VAE, x: Tensor, epochs: int) -> None:
    """Train by Adam on the ELBO."""
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            vae(x[rows]).mean().backward()
            optimizer.step()


def family_of(vae: VAE) -> Family:
    """Its q: what the encoder's output stands for, and the encoder."""

    def distribution(parameters: Tensor) -> Independent:
        mean, log_variance = parameters.chunk(2, -1)
        return Independent(Normal(mean, (log_variance / 2).exp()), 1)

    return Family(distribution, vae.encoder)


def target_of(vae: VAE, family: Family) -> Target:
    """What the estimators are told of it."""
    prior = Independent(Normal(torch.zeros(LATENTS), 1.0), 1)

    def likelihood(z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=vae.decoder(z)), 1)

    def log_joint(x: Tensor, z: Tensor) -> Tensor:
        return prior.log_prob(z) + likelihood(z).log_prob(x)

    def q(x: Tensor) -> Distribution:
        return family.distribution(family.parameters(x))

    def simulate(n: int) -> tuple[Tensor, Tensor]:
        z = prior.sample((n,))
        return z, likelihood(z).sample()

    return Target(log_joint, q, prior, simulate=simulate)


def show(title: str, evidence: Iterable[LogEvidence]) -> None:
    """A table: mean over the data, its error, the noise at fixed data, and reasons for doubt."""
    print(f"\n{title:<34}{'log p(x)':>9}{'s.e.':>7}{'noise':>8}   doubts")
    for one in evidence:
        words = ", ".join(doubt.short for doubt in reliability_warnings(one))
        noise = f"{one.monte_carlo_error:8.3f}" if one.variance.isfinite().all() else f"{'?':>8}"
        print(f"  {one.name:<20}{one.kind:<12}{one.mean:9.3f}{one.standard_error:7.3f}{noise}   {words}".rstrip())


def main(epochs: int = 40, images: int = 100, k: int = 1000, steps: int = 50) -> None:
    """Train, measure and print.

    Args:
        epochs: Passes over the training images.
        images: Number of held-out images, and of simulated ones.
        k: Number of samples of each image.
        steps: Steps of annealing, and of the search for the best q.
    """
    torch.manual_seed(0)
    train, held_out = binary_digits()
    vae = VAE()
    fit(vae, train, epochs)
    vae.eval()
    family = family_of(vae)
    target = target_of(vae, family)
    x = held_out[:images]

    importance, struski = Importance(k)(target, x), Struski(k)(target, x)
    real = [Naive(k)(target, x), importance, AIS(steps, chains=4)(target, x), struski]
    show(f"{len(x)} held-out images, nats", real)
    print(f"  with 95% certainty, whatever the weights: log p(x) >= {importance.certificate():.3f}")

    assert target.simulate is not None
    simulated_z, simulated = target.simulate(images)
    below = [Importance(k)(target, simulated, split="simulated"), AIS(steps, chains=4)(target, simulated)]
    above = [one(target, simulated, z=simulated_z) for one in (UK(k), BDMC(steps, chains=4))]
    show(f"{len(simulated)} simulated images, nats", below + above)

    parts = gap.decompose(Rows(target, x), family, Search(steps=4 * steps), k)
    found = gap.interval(parts.elbo, real)
    print(f"\nELBO {parts.elbo.mean():.3f}; the ends are from {found.lower} and {found.upper}:")
    assert found.high is not None  # Struski's bound is infinite only where weights are 0, and here none is
    print(f"the gap is between {found.low.mean():.3f} and {found.high.mean():.3f} nats")
    approximation = parts.approximation(importance.value)
    print(f"the encoder loses {parts.amortisation.mean():.3f} nats of it (amortisation gap),")
    print(f"the Gaussian family about {approximation.mean():.3f} nats (approximation gap);")
    print(f"the search settled for {parts.settled.sum()} of {len(x)} images")


if __name__ == "__main__":
    main()
