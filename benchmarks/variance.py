"""The gradient through m of K draws: its variance against m, and that on average it is the gradient through all."""

import argparse

import torch
from torch import Tensor

from benchmarks import report, work
from benchmarks.candidates import ours, plain
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.q.diagonal import Diagonal
from taut.objective.iwae import Iwae

COUNTS = (1, 2, 5, 10, 25, 50)


def gradient(joint: Joint, q: Diagonal, x: Tensor, k: int, m: int, seed: int) -> Tensor:
    """The gradient of one step with the noise of ``seed``, the same for every m; one vector, in float64."""
    torch.manual_seed(seed)
    loss = Iwae().surrogate(draw(joint, q, x, k, backward=m))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, ours.parameters(joint, q))]).double()


def moments(steps: int, images: int, repeats: int, k: int) -> dict[int, tuple[float, float]]:
    r"""For each m: its variance over that of all, and how far the mean is from that of all.

    The second is $|\\bar d|^2 R / \\mathrm{tr}\\, \\mathrm{Var}(d)$ of the differences d to the gradient through all
    with the same noise, over R repeats: 1 on average if the choice of draws is unbiased, more if not.
    """
    joint, q = ours.model(plain.trained(work.weights(), steps))
    x = torch.tensor(work.binary("test", images))
    counts = [m for m in COUNTS if m < k]
    sums = {m: torch.zeros(4, sum(p.numel() for p in ours.parameters(joint, q)), dtype=torch.float64) for m in counts}
    whole = torch.zeros_like(sums[counts[0]][:2])
    for seed in range(repeats):
        full = gradient(joint, q, x, k, k, seed)
        whole += torch.stack([full, full.square()])
        for m in counts:
            g = gradient(joint, q, x, k, m, seed)
            sums[m] += torch.stack([g, g.square(), g - full, (g - full).square()])
    total = _variance(whole, repeats)
    found = {m: (_variance(s[:2], repeats) / total, _bias(s[2:], repeats)) for m, s in sums.items()}
    return {**found, k: (1.0, 0.0)}


def _variance(sums: Tensor, n: int) -> float:
    return float((sums[1] / n - (sums[0] / n).square()).sum() * n / (n - 1))


def _bias(sums: Tensor, n: int) -> float:
    return float((sums[0] / n).square().sum() * n / _variance(sums, n))


def show(args: argparse.Namespace, steps: int = 2000, images: int = 20, repeats: int = 200) -> None:
    """Print the table."""
    found = moments(steps, images, repeats, 50)
    print(f"\nGradient variance, K = 50, {images} images, {repeats} repeats, after {steps} steps at K = 1\n")
    print(report.header(args.threads))
    rows = [[str(m), f"{ratio:.2f}", f"{bias:.2f}" if m < 50 else "exact"] for m, (ratio, bias) in found.items()]
    print(report.table(["m", "variance, x that through all", "squared bias, x its own error"], rows))
