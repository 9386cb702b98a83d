"""The transformer: scikit-learn's own checks, and the regressions and densities it must equal."""

import doctest
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest
import torch
from completion.tables import Frame, holes
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import taut.completion.imputer
from taut.completion import Imputer
from taut.completion.imputer import _round, _start, fit_mixture
from taut.errors import UserError
from taut.objective.em import expect


@parametrize_with_checks([Imputer(), Imputer(components=2, fill="most_probable"), Imputer(fill="draw")])
def test_the_checks_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about checks that want another library
        check(estimator)


def _pair(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of N(0, [[2, 1], [1, 2]]), and the same without half of the first coordinates."""
    generator = np.random.default_rng(seed)
    x = generator.multivariate_normal([0, 0], [[2, 1], [1, 2]], n)
    hidden = np.zeros(x.shape, dtype=bool)
    hidden[:, 0] = generator.random(n) < 0.5
    return x, np.where(hidden, np.nan, x)


def test_the_error_on_a_known_gaussian_is_its_conditional_variance():
    """2 - 1/2 = 1.5, plus five standard errors of the mean of 50,000 squares."""
    x, seen = _pair(100_000)
    hidden = np.isnan(seen)
    imputer = Imputer().fit(seen)
    error = np.square(imputer.transform(seen) - x)[hidden]
    assert error.mean() == pytest.approx(1.5, abs=5 * 1.5 * (2 / hidden.sum()) ** 0.5)
    assert error.mean() <= 1.55
    assert imputer.score_samples(seen).mean() == pytest.approx(-2.5764, abs=0.05)


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
    assert np.abs(error).max() < 0.001
    np.testing.assert_array_equal(filled[~np.isnan(seen)], seen[~np.isnan(seen)])


@pytest.mark.filterwarnings("ignore:.IterativeImputer. Early stopping")
@torch.no_grad()
def test_thirty_rounds_with_leaps_come_as_far_as_eighty_without():
    x = torch.as_tensor(StandardScaler().fit_transform(load_breast_cancer().data[:200, :15]))
    x[torch.as_tensor(np.random.default_rng(0).random(x.shape) < 0.5)] = torch.nan
    found, plain = fit_mixture(x, 1, floor=1e-3), _start(x, 1, 1e-3, 0)
    rows = plain.likelihood.prepared(x)
    for _ in range(80):
        _round(plain, rows)
    assert expect(found, x)[0].mean() >= expect(plain, x)[0].mean()


def test_gaussian_data_are_filled_nearly_as_chained_regressions_fill_them():
    """Nearly: chained regressions take what they filled for observed, and the likelihood does not."""
    for seed in range(3):
        generator = np.random.default_rng(seed)
        x = generator.normal(size=(1000, 5)) @ generator.normal(size=(5, 5))
        seen = holes(x, 0.2, seed)
        hidden = np.isnan(seen)
        ours, theirs = (imputer.fit_transform(seen) for imputer in (Imputer(), IterativeImputer(max_iter=50)))
        error, other, between = (
            np.square((a - b) / x.std(0))[hidden].mean() for a, b in ((ours, x), (theirs, x), (ours, theirs))
        )
        assert error < 1.03 * other
        assert between < 0.1 * error


def test_half_of_a_table_of_thirty_correlated_columns(trainings):
    x = StandardScaler().fit_transform(load_breast_cancer().data)
    seen = holes(x, 0.5)

    def error(imputer) -> float:
        return np.square(imputer.fit_transform(seen) - x)[np.isnan(seen)].mean()

    assert error(Imputer()) < 0.27
    assert error(SimpleImputer()) > 0.95
    assert error(KNNImputer()) > 0.5


def test_draws_have_the_conditional_spread_and_follow_their_seed(trainings):
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


def test_the_kind_that_comes_in_goes_out():
    _, seen = _pair(50)
    filled = Imputer().fit_transform(seen)
    frame = pandas.DataFrame(seen, columns=["a", "b"], index=range(5, 55))
    back = Imputer().fit_transform(frame)
    pandas.testing.assert_frame_equal(back, pandas.DataFrame(filled, columns=["a", "b"], index=range(5, 55)))
    assert Imputer().fit(frame).score_samples(frame).index.equals(frame.index)
    rows = torch.from_numpy(seen.astype(np.float32))
    tensor = Imputer().fit_transform(rows)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor[~rows.isnan()], rows[~rows.isnan()])
    np.testing.assert_allclose(tensor.numpy(), filled, atol=1e-5)


def test_a_classifier_behind_it_learns_from_a_table_withholes():
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), Imputer(), LogisticRegression())
    seen = holes(x[:, :8], 0.3)
    assert clone(model).fit(seen[:400], y[:400]).score(seen[400:], y[400:]) > 0.9


def test_the_example_in_its_docstring():
    assert doctest.testmod(taut.completion.imputer) == (0, 2)


def test_completions_are_met_without_what_the_imputer_needs(programs):
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
