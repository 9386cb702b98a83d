"""Which of five imputers proper scores put first, and which the squared error: ``python -m benchmarks.completions``.

Data are drawn from a mixture of three Gaussians in four columns, and every cell is hidden with probability one half;
each imputer gives 99 completions of every row: draws of the true posterior, its mean, draws spread half as far again
and half as far about that mean, and draws of every column by itself.
"""

import argparse

import torch
from torch import Tensor

from benchmarks import report
from taut.completion import apply_mask, complete
from taut.completion.imputer import fit_mixture
from taut.completion.judged import Judged, cell_errors
from taut.functional.proper_scores import ENSEMBLE, marginal_draws
from taut.functional.sampling import NoiseKeys

TITLES = {"energy": "energy score", "crps": "CRPS", "coverage_50": "in 50%", "coverage_90": "in 90%", "rmse": "RMSE"}


def imputers(n: int, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of the five, by name, over n rows.

    Args:
        n: Rows.
        seed: Seed of the data, the holes and the draws.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    centres, mix = 3 * normal(3, 4), 0.6 * normal(3, 4, 4) + torch.eye(4)
    which = torch.randint(3, (n,), generator=generator)
    # the model is fitted to data like these, and what is completed is drawn from the model
    joint = fit_mixture(centres[which] + torch.einsum("nij,nj->ni", mix[which], normal(n, 4)), 3, floor=1e-9, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        truth = joint.likelihood(joint.prior().sample((n,))).sample()
    x = apply_mask(truth, torch.rand(n, 4, generator=generator) < 0.5)
    made = complete(
        joint, lambda rows: joint.prior().expand((1,)), x, NoiseKeys(torch.arange(n), seed, "draws"), draws=ENSEMBLE
    )
    mean, spread = made.mean, made.draws - made.mean
    forecasts = {
        "draws of the posterior": made.draws,
        "its mean": mean.unsqueeze(0),
        "draws, spread x 1.5": mean + 1.5 * spread,
        "draws, spread x 0.5": mean + 0.5 * spread,
        "draws of the column": marginal_draws(truth, ENSEMBLE, seed).unsqueeze(1).expand(-1, n, -1),
    }
    unit = torch.ones(4, dtype=torch.float64)
    return {
        name: Judged.of(draws, x, truth, unit).scores() | cell_errors(draws[0], truth, x, unit, binary=False)
        for name, draws in forecasts.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for name, scores in imputers(args.rows, args.seed).items():
        cells = []
        for key in TITLES:
            one = scores.get(key)
            share = key.startswith("coverage")
            cells.append("" if one is None else f"{one['value']:.1%}" if share else f"{one['value']:.3f}")
        rows.append([name, *cells])
    print(report.table(["completion", *TITLES.values()], rows))


if __name__ == "__main__":
    main()
