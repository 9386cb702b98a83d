"""How often a comparison of two models is wrong, and how many data it takes: ``python -m benchmarks.comparisons``.

1,000 trials of exact models whose mean log p(x) over the population is the same, by symmetry or by a closed form, so
that whoever says that one of them beats the other is wrong. Somebody looks after every datum from the fiftieth to the
4,000th, and stops at the first claim, by the limits of ``report`` and ``evaluate``
(``taut.functional.confidence_sequence``, 95% for both directions together), or by a t test of 5% at every look.

Then one model is better by twice the effect that a t test of 1,000 data finds in 80% of trials: by how many data it is
told apart.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import norm

from benchmarks import report
from taut.functional.confidence_sequence import BURN_IN, LEVEL, TARGET, lower_limit

MOST = 4_000
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def mixtures(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Differences of log p(x) of a mixture of Gaussians and of its mirror image, of data that are symmetric."""
    from taut.model import exact_inference
    from taut.model.joint import Joint
    from taut.model.likelihood.component import Component
    from taut.model.prior.categorical import Categorical

    x = np.concatenate([rng.normal(-2, 1, (shape[0] * shape[1], 1)), rng.normal(0, 1, (shape[0] * shape[1], 1))], 1)
    x *= rng.choice([-1.0, 1.0], (len(x), 1))
    rows = torch.from_numpy(
        np.concatenate([[[-2.0, 0.0], [2.5, 0.5]] + 0.7 * rng.normal(size=(40, 1, 2))]).reshape(-1, 2)
    )
    prior, likelihood = Categorical(2), Component((2,), 2)
    joint = Joint(prior, likelihood).double()
    likelihood.initialise(rows)
    prior.maximise({"counts": likelihood.counts})
    with torch.no_grad():
        own, mirrored = (exact_inference.log_marginal(joint, torch.from_numpy(side * x)).numpy() for side in (1, -1))
    return (own - mirrored).reshape(shape)


def widths(freedom: float = math.inf) -> Draw:
    """Differences of two Gaussians of other widths, of data for which their mean log p(x) is the same: skewed ones."""
    variance = 1.0 if math.isinf(freedom) else freedom / (freedom - 2)
    # the width v2 with log v1 + variance / v1 = log v2 + variance / v2
    v1 = 4 * variance
    low, high = 1e-3 * variance, variance
    for _ in range(200):
        middle = (low + high) / 2
        above = math.log(middle) + variance / middle > math.log(v1) + variance / v1
        low, high = (middle, high) if above else (low, middle)

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        x = rng.normal(size=shape) if math.isinf(freedom) else rng.standard_t(freedom, shape)
        return 0.5 * (math.log(high / v1) + x**2 * (1 / high - 1 / v1))

    return draw


def shifted(freedom: float) -> Draw:
    """Differences of two Gaussians that are mirror images, of symmetric data with heavy tails."""
    return lambda rng, shape: 0.4 * rng.standard_t(freedom, shape)


def noise_alone(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """One linear-Gaussian model, bounded twice with K = 5 draws of its prior: all that differs is the noise."""
    x, k = rng.normal(0, math.sqrt(2), shape), 5

    def bound() -> np.ndarray:
        log_w = -0.5 * (x - rng.normal(size=(k, *shape))) ** 2
        return np.logaddexp.reduce(log_w, 0)

    return bound() - bound()


ARENAS: dict[str, Draw] = {
    "mixtures, mirrored": mixtures,
    "Gaussians of other widths, skewed": widths(),
    "Gaussians, mirrored, heavy tails (t, 3 degrees)": shifted(3),
    "Gaussians of other widths, skewed and heavy (t, 5 degrees)": widths(5),
    "bounds of one model, K = 5": noise_alone,
}


def first_claims(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Data at which a row is first claimed to have a mean above 0, or infinity: by the limits, and by t tests."""
    looks = slice(BURN_IN - 1, None)
    n = np.arange(1, values.shape[1] + 1)[looks]
    first, second, third = ((values**power).cumsum(1)[:, looks] / n for power in (1, 2, 3))
    variance = second - first**2
    skewed = (third - 3 * first * second + 2 * first**3) / variance**1.5
    std = np.sqrt(variance * n / (n - 1))
    ours = np.stack(
        [lower_limit(first[:, i], std[:, i], skewed[:, i], int(m), LEVEL / 2) > 0 for i, m in enumerate(n)], 1
    )
    tests = first > norm.isf(LEVEL / 2) * std / np.sqrt(n)
    return _first(ours), _first(tests)


def _first(claimed: np.ndarray) -> np.ndarray:
    return np.where(claimed.any(1), claimed.argmax(1) + float(BURN_IN), np.inf)


def main() -> None:
    """Count false claims, and the data that a true one takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for name, draw in ARENAS.items():
        values = draw(np.random.default_rng(args.seed), (args.trials, MOST))
        up, down = first_claims(values), first_claims(-values)
        ours, tests = (np.isfinite(np.minimum(a, b)).mean() for a, b in zip(up, down, strict=True))
        rows.append([name, f"{ours:.1%}", f"{tests:.1%}"])
    print(report.table(["differences of mean 0", "wrong: limits", "wrong: t test at each look"], rows))
    effect = 2 * (norm.isf(LEVEL / 2) + norm.isf(0.2)) / math.sqrt(TARGET)
    found, _ = first_claims(np.random.default_rng(args.seed).normal(effect, 1, (args.trials, TARGET)))
    half = (found <= TARGET / 2).mean()
    print(f"twice the effect: {half:.0%} told apart by {TARGET // 2} data, the median by {np.median(found):.0f}")


if __name__ == "__main__":
    main()
