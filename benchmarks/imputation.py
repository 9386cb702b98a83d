"""Half of the cells of scikit-learn's breast-cancer table, filled in: ``python -m benchmarks.imputation``.

569 rows of 30 standardised columns, or with ``--table concrete`` the 1,030 x 9 of ``data=concrete``; cells are hidden
completely at random. The score is the mean squared error over the hidden cells, in units of each column's variance, as
in Mattei & Frellsen (2019). Every method sees the observed cells of the same rows only. ``miwae`` is trained and asked
by the command line, in a folder that is removed again. Seconds are the processor time of this process, of methods that
take turns on each mask. ``--table large`` has 20,000 rows of 50 columns that follow from 15 and noise, and is filled by
``Imputer()`` and ``IterativeImputer()`` alone.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from taut.completion import Imputer
from taut.data.concrete import Concrete

ROOT = Path(__file__).resolve().parents[1]
MIWAE = [
    *["model=iwae", "k=20", "likelihood=gaussian", "q=masked", "network.hidden=[128,128]", "mask=from_data"],
    *["data=table", "data.val_fraction=0", "data.test_fraction=0", "data.batch_size=64", "logger=csv"],
    *["trainer.check_val_every_n_epoch=100"],
]

COMPONENTS, STARTS, HELD_OUT = (3, 8), 4, 0.1
"""Components and starts of ``mixtures``, and the share of observed cells that chooses among the former."""


def table() -> np.ndarray:
    """The standardised table of breast cancers."""
    return _standardised(np.asarray(load_breast_cancer(return_X_y=True)[0]))


def concrete() -> np.ndarray:
    """The standardised table of mixtures of concrete."""
    whole = Concrete(batch_size=None, val_fraction=0, test_fraction=0)
    return _standardised(np.asarray(whole.stored.train))


def large_table() -> np.ndarray:
    """20,000 rows of 50 standardised columns: 15 numbers, mixed, and noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 15)) @ rng.standard_normal((15, 50)) + 2 * rng.standard_normal((20_000, 50))
    return _standardised(x)


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def mixtures(x: np.ndarray) -> np.ndarray:
    """The mean over mixtures from several starts, of as many components as best fill in observed cells held out."""
    # no seed of a mask, or its own numbers would choose again, and none of the observed cells
    held = ~np.isnan(x) & (np.random.default_rng(10**6).random(x.shape) < HELD_OUT)
    others = np.where(held, np.nan, x)
    errors = {many: np.square(_mean_of_starts(others, many) - x)[held].mean() for many in COMPONENTS}
    return _mean_of_starts(x, min(errors, key=lambda many: errors[many]))


def _mean_of_starts(x: np.ndarray, components: int) -> np.ndarray:
    return np.mean([Imputer(components=components, seed=seed).fit_transform(x) for seed in range(STARTS)], 0)


def miwae(x: np.ndarray, epochs: int) -> np.ndarray:
    """The mean of an IWAE trained on the observed cells."""
    with tempfile.TemporaryDirectory() as place:
        given, filled = Path(place) / "holes.npy", Path(place) / "filled.npy"
        np.save(given, x)
        words = [f"data.path={given}", f"hydra.run.dir={place}/run"]
        _run("train.py", *MIWAE, *words, f"trainer.max_epochs={epochs}")
        _run("complete.py", f"run={place}/run", "data=table", f"data.path={given}", f"out={filled}", "k=5000")
        return np.load(filled)


def _run(script: str, *words: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *words], check=True, stdout=subprocess.DEVNULL)


METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "mean of the column": lambda x, _: SimpleImputer().fit_transform(x),
    "5 nearest neighbours": lambda x, _: KNNImputer().fit_transform(x),
    "IterativeImputer()": lambda x, _: np.asarray(IterativeImputer(random_state=0).fit_transform(x)),
    "extra trees": lambda x, _: np.asarray(IterativeImputer(ExtraTreesRegressor(random_state=0)).fit_transform(x)),
    "Imputer()": lambda x, _: Imputer().fit_transform(x),
    "Imputer(components=2)": lambda x, _: Imputer(components=2).fit_transform(x),
    "Imputer(components=3)": lambda x, _: Imputer(components=3).fit_transform(x),
    "mean of mixtures": lambda x, _: mixtures(x),
    "miwae": miwae,
}
TABLES = {"breast_cancer": table, "concrete": concrete, "large": large_table}

LARGE = ("mean of the column", "IterativeImputer()", "Imputer()")


def main(
    seeds: int = 3, epochs: int = 200, table: str = "breast_cancer", methods: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Normalised mean squared error of every method for every seed; prints a table."""
    truth = TABLES[table]()
    named = methods or (LARGE if table == "large" else METHODS)
    chosen = {name: METHODS[name] for name in named}
    scores: dict[str, list[float]] = {name: [] for name in chosen}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for seed in range(seeds):
        hidden = np.random.default_rng(seed).random(truth.shape) < 0.5
        x = np.where(hidden, np.nan, truth)
        for name, fill in chosen.items():
            started = process_time()
            found = fill(x, epochs)
            seconds[name].append(process_time() - started)
            scores[name].append(float(np.square(found - truth)[hidden].mean()))
    for name, values in scores.items():
        each, times = ", ".join(f"{value:.3f}" for value in values), ", ".join(f"{time:.2f}" for time in seconds[name])
        print(f"{name:24} {np.mean(values):.3f}   ({each})   {times} s")
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("seeds", 3), ("epochs", 200)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default {value}")
    parser.add_argument("--table", choices=TABLES, default="breast_cancer", help="default breast_cancer")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="those to try; default all")
    main(**vars(parser.parse_args()))
