"""The transformer: scikit-learn's own checks, the regressions and densities it must equal, and runs behind it."""

import doctest
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from evaluations import QUIET, trained
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import taut.imputer
from taut.completion import Imputer, complete
from taut.errors import UserError
from taut.holes import hide, observed
from taut.run import Run
from taut.sampling import Keys


class Frame(NamedTuple):
    """What this project asks of a data frame: names, and numbers."""

    columns: list[str]
    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)


@parametrize_with_checks([Imputer(), Imputer(components=2, fill="most_probable"), Imputer(fill="draw")])
def test_the_checks_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about checks that want another library
        check(estimator)


def _pair(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of N(0, [[2, 1], [1, 2]]), and the same without half of the first coordinates."""
    generator = np.random.default_rng(seed)
    x = generator.multivariate_normal([0, 0], [[2, 1], [1, 2]], n)
    holes = np.zeros(x.shape, dtype=bool)
    holes[:, 0] = generator.random(n) < 0.5
    return x, np.where(holes, np.nan, x)


def _holes(x: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def test_the_error_on_a_known_gaussian_is_its_conditional_variance():
    """2 - 1/2 = 1.5, plus five standard errors of the mean of 50,000 squares."""
    x, seen = _pair(100_000)
    hidden = np.isnan(seen)
    error = np.square(Imputer().fit_transform(seen) - x)[hidden]
    assert error.mean() == pytest.approx(1.5, abs=5 * 1.5 * (2 / hidden.sum()) ** 0.5)
    assert error.mean() <= 1.55


def test_one_incomplete_column_is_the_regression_on_the_complete_rows():
    """The maximum of the likelihood has a closed form where one column alone has holes (Anderson, 1957)."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(400, 4)) @ generator.normal(size=(4, 4)) * [1, 1e-3, 1e4, 1] + [0, 5, -1e5, 2]
    hidden = generator.random(400) < 0.6
    seen = x.copy()
    seen[hidden, 2] = np.nan
    others = [0, 1, 3]
    regression = LinearRegression().fit(x[~hidden][:, others], x[~hidden, 2])
    filled = Imputer().fit_transform(seen)
    error = (filled[hidden, 2] - regression.predict(x[hidden][:, others])) / x[:, 2].std()
    assert np.abs(error).max() < 0.01
    np.testing.assert_array_equal(filled[~np.isnan(seen)], seen[~np.isnan(seen)])


@pytest.mark.filterwarnings("ignore:.IterativeImputer. Early stopping")
def test_gaussian_data_are_filled_nearly_as_chained_regressions_fill_them():
    """Nearly: chained regressions take what they filled for observed, and the likelihood does not."""
    for seed in range(3):
        generator = np.random.default_rng(seed)
        x = generator.normal(size=(1000, 5)) @ generator.normal(size=(5, 5))
        seen = _holes(x, 0.2, seed)
        hidden = np.isnan(seen)
        ours, theirs = (imputer.fit_transform(seen) for imputer in (Imputer(), IterativeImputer(max_iter=50)))
        error, other, between = (
            np.square((a - b) / x.std(0))[hidden].mean() for a, b in ((ours, x), (theirs, x), (ours, theirs))
        )
        assert error < 1.03 * other
        assert between < 0.1 * error


@pytest.mark.slow
def test_half_of_a_table_of_thirty_correlated_columns():
    x = StandardScaler().fit_transform(load_breast_cancer().data)
    seen = _holes(x, 0.5)

    def error(imputer) -> float:
        return np.square(imputer.fit_transform(seen) - x)[np.isnan(seen)].mean()

    assert error(Imputer()) < 0.27
    assert error(SimpleImputer()) > 0.95
    assert error(KNNImputer()) > 0.5


def test_draws_have_the_conditional_spread_and_follow_their_seed():
    _, seen = _pair(2000)
    hidden = np.isnan(seen)
    mean = Imputer().fit_transform(seen)[hidden]
    first, again, other = (Imputer(fill="draw", seed=seed).fit_transform(seen)[hidden] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    for draw in (first, other):
        spread = np.square(draw - mean).mean()
        assert spread == pytest.approx(1.5, abs=0.1 + 5 * 1.5 * (2 / hidden.sum()) ** 0.5)
    assert abs(np.corrcoef(first - mean, other - mean)[0, 1]) < 5 / hidden.sum() ** 0.5


def test_of_two_clusters_the_mean_is_between_and_the_most_probable_value_in_one():
    generator = np.random.default_rng(3)
    side = np.where(generator.random(600) < 0.6, 1, -1)
    x = np.stack([10 * side + generator.normal(size=600), generator.normal(size=600)], 1)
    seen = x.copy()
    seen[:50, 0] = np.nan
    mean, mode = (Imputer(components=2, fill=f).fit_transform(seen)[:50, 0] for f in ("mean", "most_probable"))
    assert mean == pytest.approx(10 * side[50:].mean(), abs=2)
    assert mode == pytest.approx(10, abs=0.6)


def test_scores_are_densities_in_the_units_of_the_columns():
    generator = np.random.default_rng(4)
    mixing = np.eye(3) + 0.2 * generator.normal(size=(3, 3))
    x = generator.normal(size=(300, 3)) @ mixing * [50, 1, 0.02] + 7
    imputer = Imputer().fit(x)
    truth = multivariate_normal(x.mean(0), np.cov(x.T, bias=True))
    np.testing.assert_allclose(imputer.score_samples(x), truth.logpdf(x), rtol=1e-8, atol=1e-8)
    pair = multivariate_normal(x[:, [0, 2]].mean(0), np.cov(x[:, [0, 2]].T, bias=True))
    seen = x * [1, np.nan, 1]
    np.testing.assert_allclose(imputer.score_samples(seen), pair.logpdf(x[:, [0, 2]]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "x",
    [
        [[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan]],
        [[1.0, 2.0, 2.0], [1.0, np.nan, 2.0], [1.0, 2.0, np.nan]],
        [[0.0, 0.0], [1.0, 1.0], [2.0, np.nan], [np.nan, np.nan]],
        [[5.0, 6.0]],
    ],
    ids=["two rows", "constant columns", "equal columns", "one row"],
)
@pytest.mark.parametrize("fill", ["mean", "most_probable", "draw"])
def test_tiny_and_degenerate_tables_are_filled(x, fill):
    filled = Imputer(fill=fill).fit_transform(x)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(x)], np.array(x)[~np.isnan(x)])


def test_a_classifier_behind_it_learns_from_a_table_with_holes():
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), Imputer(), LogisticRegression())
    seen = _holes(x[:, :8], 0.3)
    assert clone(model).fit(seen[:400], y[:400]).score(seen[400:], y[400:]) > 0.9


def test_the_example_in_its_docstring():
    assert doctest.testmod(taut.imputer) == (0, 2)


def test_completions_are_met_without_what_the_imputer_needs():
    code = (
        "import sys, taut.completion; "
        "print([name for name in ('lightning', 'sklearn', 'hydra', 'wandb') if name in sys.modules]); "
        "from taut.completion import Imputer; print(Imputer())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\nImputer()\n", done.stdout + done.stderr


REFUSED = {
    "an unknown fill": (Imputer(fill="median"), [[1.0]], r"fill='median' is not known"),
    "no components": (Imputer(components=0), [[1.0]], r"components=0 must be a whole number, 1 or more"),
    "half a draw": (Imputer(k=0.5), [[1.0]], r"k=0.5 must be a whole number"),
    "an empty column": (Imputer(), [[1.0, np.nan], [2.0, np.nan]], r"Column 1 of X is observed in no row"),
    "an empty named column": (Imputer(), Frame(["a", "b"], np.array([[1, np.nan]])), r"Column 'b' of X is observed"),
    "text": (Imputer(), [["1.0", "blue"]], r"X holds text .*blue"),
    "values without a square": (Imputer(), [[1e200], [-1e200]], r"Column 0 of X holds values so large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_filled_is_refused_in_one_sentence(name):
    imputer, x, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        imputer.fit(x)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_more_components_than_rows_are_refused_as_scikit_learn_would():
    with pytest.raises(ValueError, match=r"2 sample\(s\) .* minimum of 3 is required"):
        Imputer(components=3).fit([[1.0], [2.0]])


# --- with a run behind it ---

NAMES = ["height", "weight", "age"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[Path, np.ndarray]:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(80, 3)) @ generator.normal(size=(3, 3)) * [1, 10, 100] + [0, 50, 1000]
    path = tmp_path_factory.mktemp("table") / "people.csv"
    path.write_text("\n".join([",".join(NAMES), *(",".join(map(repr, row)) for row in x.tolist())]))
    return path, x


@pytest.fixture(scope="module")
def runs(table, tmp_path_factory) -> dict[str, Path]:
    words = [*QUIET, "logger=csv", "trainer.max_epochs=3", "k_eval=4", "k_test=4", "data=table"]
    made = {
        "mog": ["model=mog", "model.components=2"],
        "vae": ["model=vae", "likelihood=gaussian", "network.hidden=[8]", "latent_dim=2"],
    }
    folder = tmp_path_factory.mktemp("runs")
    return {name: trained(folder / name, *words, f"data.path={table[0]}", *more) for name, more in made.items()}


def test_columns_in_another_order_are_found_by_name(runs, table):
    seen = _holes(table[1], 0.3)
    order = [2, 0, 1]
    imputer = Imputer(runs["mog"])
    filled = imputer.fit_transform(seen)
    assert not np.isnan(filled).any()
    frame = Frame([NAMES[i] for i in order], seen[:, order])
    np.testing.assert_array_equal(clone(imputer).fit_transform(frame), filled[:, order])
    np.testing.assert_array_equal(clone(imputer).fit(frame).score_samples(frame), imputer.score_samples(seen))


def test_a_data_frame_goes_in_and_comes_out(runs, table):
    pandas = pytest.importorskip("pandas")
    order = [2, 0, 1]
    frame = pandas.DataFrame(_holes(table[1], 0.3), columns=NAMES).iloc[:, order]
    imputer = Imputer(runs["mog"]).set_output(transform="pandas").fit(frame)
    filled = imputer.transform(frame)
    assert list(filled.columns) == [NAMES[i] for i in order] == list(imputer.get_feature_names_out())
    np.testing.assert_array_equal(filled[NAMES].to_numpy(), Imputer(runs["mog"]).fit_transform(frame[NAMES].to_numpy()))


def test_a_run_s_model_completes_as_complete_does(runs, table, float64):
    seen = _holes(table[1], 0.3)
    model, _, _ = Run.open(runs["mog"]).load()
    x = torch.from_numpy(seen)
    expected = complete(model.joint, lambda rows: model.q(x[rows]), x, Keys(torch.arange(80), 0, "impute"), draws=1)
    for fill in ("mean", "most_probable", "draw"):
        filled = Imputer(runs["mog"], fill=fill).fit_transform(seen)
        answer = expected.draws[0] if fill == "draw" else getattr(expected, fill)
        np.testing.assert_allclose(filled, answer, rtol=1e-12)


@pytest.mark.parametrize("fill", ["mean", "most_probable", "draw"])
def test_a_run_whose_posterior_is_sampled(runs, table, fill):
    """It must leave the process as it was, survive a pickle, and know no row by its neighbours."""
    seen = _holes(table[1], 0.3).astype(np.float32)
    before = torch.get_default_dtype(), torch.initial_seed(), torch.get_rng_state()
    imputer = Imputer(str(runs["vae"]), fill=fill, k=50).fit(seen)
    filled = imputer.transform(seen)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~np.isnan(seen)], seen[~np.isnan(seen)])
    copy = pickle.loads(pickle.dumps(imputer))
    np.testing.assert_array_equal(copy.transform(seen), filled)
    np.testing.assert_allclose(imputer.transform(seen[:7]), filled[:7], rtol=1e-5)
    np.testing.assert_array_equal(copy.score_samples(seen), imputer.score_samples(seen))
    after = torch.get_default_dtype(), torch.initial_seed(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_columns_that_are_not_the_run_s_are_refused(runs, table):
    x = table[1]
    imputer = Imputer(runs["mog"])
    with pytest.raises(UserError, match=r"X has 4 columns, and mog was trained on 3 \(height, weight, age\)"):
        imputer.fit(np.hstack([x, x[:, :1]]))
    with pytest.raises(
        UserError, match=r"X has no column 'weight', which mog was trained on; it has height, mass, age"
    ):
        imputer.fit(Frame(["height", "mass", "age"], x))
    with pytest.raises(UserError, match="is not the folder of a run"):
        Imputer(table[0]).fit(x)


def test_hidden_cells_cannot_matter(runs, table):
    x = table[1]
    mask = np.random.default_rng(6).random(x.shape) < 0.5
    first, second = (hide(torch.from_numpy(values), torch.from_numpy(mask)).numpy() for values in (x, -5 * x))
    second[mask] = first[mask]
    assert observed(torch.from_numpy(first)).numpy().sum() == mask.sum()
    for run in (None, runs["vae"]):
        np.testing.assert_array_equal(Imputer(run).fit_transform(first), Imputer(run).fit_transform(second))
