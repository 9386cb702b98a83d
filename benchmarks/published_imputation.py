"""Published imputations, run anew: ``python -m benchmarks.published_imputation``.

``miwae``: half of the cells of scikit-learn's table of breast cancers, hidden as in the notebook of Mattei and
Frellsen (2019) by ``numpy.random.seed(1234)``; their model and settings. It prints the mean squared error over the
hidden cells and the bound of the observed ones (K = 20). ``not_miwae``: in the first half of the columns every value
above the mean is missing (Ipsen, Mattei & Frellsen, 2021), of that table or, with ``--table concrete``, of
``data=concrete``. It prints the root mean squared error of ``likelihood=self_masking`` and of the same model without
the mask. Columns have mean 0 and variance 1 before anything is hidden. Everything is done by the command line, in a
folder that is removed again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.imputation import ROOT, TABLES, table

ALIKE = [
    *["model=iwae", "k=20", "k_eval=20", "network.hidden=[128,128]", "mask=from_data", "data=table"],
    *["data.val_fraction=0", "data.test_fraction=0", "logger=csv", "trainer.check_val_every_n_epoch=100"],
]
MIWAE = [
    *["likelihood=student_t", "likelihood.min_scale=0.001", "q=student_t", "network.activation=relu"],
    *["data.batch_size=32", "optimizer.lr=2e-4"],
]
NOT_MIWAE = ["data.batch_size=16"]
PUBLISHED = {501: (0.2870, -6.910), 1001: (0.2867, -3.611)}
PUBLISHED_NOT_MIWAE = {
    "breast_cancer": {"mean": 1.82, "gaussian": 1.20, "self_masking": 0.76},
    "concrete": {"mean": 1.85, "gaussian": 1.66, "self_masking": 1.12},
}
"""Root mean squared errors of Table 1 of Ipsen et al. (2021)."""


def half_at_random(x: np.ndarray) -> np.ndarray:
    """The table without the cells that the notebook hides."""
    # numpy's old generator, as there: it decides which cells
    chosen = np.random.RandomState(1234).choice(x.size, x.size // 2, replace=False)
    holes = x.flatten()
    holes[chosen] = np.nan
    return holes.reshape(x.shape)


def high_half(x: np.ndarray) -> np.ndarray:
    """The table without what is above the mean of its column, in the first half of the columns."""
    masked = (x > x.mean(0)) & (np.arange(x.shape[1]) < x.shape[1] // 2)
    return np.where(masked, np.nan, x)


def error(filled: np.ndarray, holes: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error over the hidden cells."""
    return float(np.square(filled - truth)[np.isnan(holes)].mean())


def miwae(place: Path, seed: int, epochs: int) -> None:
    """One training, looked at twice."""
    given, run = place / "half.npy", place / "miwae"
    np.save(given, half_at_random(table()))
    _run("train.py", *ALIKE, *MIWAE, f"data.path={given}", f"hydra.run.dir={run}", f"seed={seed}", _until(epochs))
    for end, (mse, bound) in zip((epochs, 2 * epochs - 1), PUBLISHED.values(), strict=True):
        if end > epochs:
            _run("train.py", f"resume={run}", _until(end))
        scored = json.loads((run / "result.json").read_text())["scores"]["bound"]
        found = error(_filled(run, given), np.load(given), table())
        print(
            f"MIWAE, seed {seed}, epoch {end}: mean squared error {found:.4f} (published {mse:.4f}), "
            f"bound {scored['value']:.3f} (published {bound:.3f})"
        )


def not_miwae(place: Path, seed: int, epochs: int, name: str) -> None:
    """The mean of each column, the model of x alone, and with a model of the mask."""
    given, truth, published = place / "high.npy", TABLES[name](), PUBLISHED_NOT_MIWAE[name]
    np.save(given, holes := high_half(truth))
    means = error(np.where(np.isnan(holes), np.nanmean(holes, 0), holes), holes, truth)
    print(f"mean of the column: {means**0.5:.2f} (published {published['mean']:.2f})")
    for likelihood in ("gaussian", "self_masking"):
        run, words = place / likelihood, [f"likelihood={likelihood}", f"data.path={given}", f"seed={seed}"]
        # the table was standardised whole, as theirs; the other likelihood has no such setting
        words += ["likelihood.units=given"] if likelihood == "self_masking" else []
        words += [f"latent_dim={truth.shape[1] - 1}", f"hydra.run.dir={run}", _until(epochs)]
        _run("train.py", *ALIKE, *NOT_MIWAE, *words)
        found = error(_filled(run, given), holes, truth) ** 0.5
        print(f"{likelihood}, seed {seed}, epoch {epochs}: {found:.2f} (published {published[likelihood]:.2f})")


def _filled(run: Path, given: Path) -> np.ndarray:
    out = run / "filled.npy"
    _run(
        "complete.py", f"run={run}", "data=table", f"data.path={given}", f"out={out}", "refine=false", "overwrite=true"
    )
    return np.load(out)


def _until(epochs: int) -> str:
    return f"trainer.max_epochs={epochs}"


def _run(script: str, *words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *words], check=True, stdout=subprocess.DEVNULL)


def main(which: str, seed: int, epochs: int, table: str) -> None:
    """Run one of the two."""
    with tempfile.TemporaryDirectory() as place:
        if which == "miwae":
            miwae(Path(place), seed, epochs)
        else:
            not_miwae(Path(place), seed, epochs, table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["miwae", "not_miwae"])
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--epochs", type=int, default=501, help="default 501; of miwae it goes on to twice as many")
    parser.add_argument(
        "--table", choices=PUBLISHED_NOT_MIWAE, default="breast_cancer", help="of not_miwae, default breast_cancer"
    )
    main(**vars(parser.parse_args()))
