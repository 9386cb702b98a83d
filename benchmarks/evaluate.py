"""Speed of the evaluator at K = 5000 against hand-written loops: ``python -m benchmarks.evaluate``.

784-200-200-50, tanh, Bernoulli. ``plain`` scores all samples of an image at once with torch's
own log-probability; ``tuned`` takes chunks of 512 samples, x'l through the last hidden layer and the sum of softplus;
``taut`` is ``taut.evidence.Importance``, k-hat and all. Rounds interleave the three; ratios are medians over rounds.
All three run with the allocator setting of the command line (``taut.memory``).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent
from torch.nn.functional import softplus

from taut.evidence import Importance, Target
from taut.joint import Joint
from taut.likelihood.bernoulli import Bernoulli as Likelihood
from taut.memory import keep_freed_pages
from taut.networks import MLPDecoder, MLPEncoder
from taut.prior.normal import Normal as Prior
from taut.q.diagonal import Diagonal

PIXELS, LATENT, HIDDEN = 784, 50, (200, 200)


def model() -> tuple[Joint, Diagonal]:
    """The published one-layer architecture, at its initial weights."""
    torch.manual_seed(0)
    shape = {"hidden": HIDDEN, "activation": "tanh"}
    joint = Joint(Prior(LATENT), Likelihood((PIXELS,), LATENT, partial(MLPDecoder, **shape)))
    return joint.requires_grad_(False), Diagonal(joint, (PIXELS,), partial(MLPEncoder, **shape)).requires_grad_(False)


def plain(joint: Joint, q: Diagonal, x: Tensor, k: int) -> Tensor:
    """One image after another, all samples at once."""
    return torch.cat([_plain(joint, q, image, k) for image in x.split(1)])


def _plain(joint: Joint, q: Diagonal, x: Tensor, k: int) -> Tensor:
    posterior = q(x)
    z = posterior.sample((k,))
    logits = joint.likelihood.decoder(z) + joint.likelihood.offset
    log_px = Independent(Bernoulli(logits=logits), 1).log_prob(x)
    log_w = log_px + joint.prior().log_prob(z) - posterior.log_prob(z)
    return log_w.logsumexp(0) - torch.tensor(float(k)).log()


def tuned(joint: Joint, q: Diagonal, x: Tensor, k: int) -> Tensor:
    """One image after another, in chunks that fit the cache, without the elementwise product of image and logits."""
    return torch.cat([_tuned(joint, q, image, k) for image in x.split(1)])


def _tuned(joint: Joint, q: Diagonal, x: Tensor, k: int) -> Tensor:
    normal = q(x).base_dist
    parts = [tuned_weights(joint, x, normal.loc, normal.scale, min(512, k - i)) for i in range(0, k, 512)]
    return torch.cat(parts).double().logsumexp(0, keepdim=True) - torch.tensor(float(k)).log()


def tuned_weights(joint: Joint, x: Tensor, mean: Tensor, scale: Tensor, size: int) -> Tensor:
    """Log-weights of one chunk."""
    *body, last = joint.likelihood.decoder.net
    noise = torch.randn(size, LATENT)
    z = torch.addcmul(mean, scale, noise)
    hidden = z
    for layer in body:
        hidden = layer(hidden)
    bias = joint.likelihood.offset if last.bias is None else last.bias + joint.likelihood.offset
    pixels = hidden @ (last.weight.T @ x[0]) + (bias * x[0]).sum()
    log_px = pixels - softplus(torch.addmm(bias, hidden, last.weight.T)).sum(1)
    return log_px - z.square().sum(1) / 2 + noise.square().sum(1) / 2 + scale.log().sum()


def taut(joint: Joint, q: Diagonal, x: Tensor, k: int) -> Tensor:
    """The evaluator of the project."""
    return Importance(k)(Target.of(joint, q), x).value


CANDIDATES: dict[str, Callable[[Joint, Diagonal, Tensor, int], Tensor]] = {"plain": plain, "tuned": tuned, "taut": taut}


def main(images: int = 4, k: int = 5000, rounds: int = 9) -> dict[str, list[float]]:
    """Seconds per image of every round; prints a table."""
    keep_freed_pages()
    joint, q = model()
    x = (torch.rand(images, PIXELS) < 0.2).float()
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    with torch.no_grad():
        for round_ in range(rounds + 1):
            for name, candidate in CANDIDATES.items():
                started = time.perf_counter()
                candidate(joint, q, x, k)
                if round_:
                    seconds[name].append((time.perf_counter() - started) / images)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, K = {k}, {rounds} rounds of {images} images")
    for name, times in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(times, seconds["tuned"], strict=True))
        print(f"{name:6} {1e3 * statistics.median(times):7.1f} ms/image   {ratio:.2f} x tuned")
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 4), ("k", 5000), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    main(**vars(parser.parse_args()))
