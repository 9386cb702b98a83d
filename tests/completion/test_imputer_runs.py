"""The transformer with the model of a run behind it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from completion.tables import Frame, holes
from evaluations import QUIET, trained
from sklearn.base import clone

from taut.completion import Imputer, complete
from taut.errors import UserError
from taut.functional.missing import apply_mask, observed
from taut.functional.sampling import NoiseKeys
from taut.training.stored_run import Run

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
    seen = holes(table[1], 0.3)
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
    frame = pandas.DataFrame(holes(table[1], 0.3), columns=NAMES).iloc[:, order]
    imputer = Imputer(runs["mog"]).set_output(transform="pandas").fit(frame)
    filled = imputer.transform(frame)
    assert list(filled.columns) == [NAMES[i] for i in order] == list(imputer.get_feature_names_out())
    np.testing.assert_array_equal(filled[NAMES].to_numpy(), Imputer(runs["mog"]).fit_transform(frame[NAMES].to_numpy()))


def test_a_data_frame_of_integers_with_missing_cells():
    """pandas' own mark of a missing cell is a missing cell; text is refused in a sentence."""
    pandas = pytest.importorskip("pandas")
    values = [[0, 0], [1, 2], [2, 4], [3, 6], [4, None]]
    frame = pandas.DataFrame(values, columns=["a", "b"]).astype("Int64")
    filled = Imputer().fit_transform(frame)
    assert list(filled.columns) == ["a", "b"]
    np.testing.assert_allclose(filled.iloc[-1], [4, 8], atol=0.05)
    with pytest.raises(UserError, match="X holds text"):
        Imputer().fit(frame.assign(b="red"))


def test_a_run_s_model_completes_as_complete_does(runs, table, float64):
    seen = holes(table[1], 0.3)
    model, _, _ = Run.open(runs["mog"]).load()
    x = torch.from_numpy(seen)
    expected = complete(
        model.joint, lambda rows: model.q(x[rows]), x, NoiseKeys(torch.arange(80), 0, "impute"), draws=1
    )
    for fill in ("mean", "most_probable", "draw"):
        filled = Imputer(runs["mog"], fill=fill).fit_transform(seen)
        answer = expected.draws[0] if fill == "draw" else getattr(expected, fill)
        np.testing.assert_allclose(filled, answer, rtol=1e-12)


@pytest.mark.parametrize("fill", ["mean", "most_probable", "draw"])
def test_a_run_whose_posterior_is_sampled(runs, table, fill):
    """It must leave the process as it was, survive a pickle, and know no row by its neighbours."""
    seen = holes(table[1], 0.3).astype(np.float32)
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
    first, second = (apply_mask(torch.from_numpy(values), torch.from_numpy(mask)).numpy() for values in (x, -5 * x))
    second[mask] = first[mask]
    assert observed(torch.from_numpy(first)).numpy().sum() == mask.sum()
    for run in (None, runs["vae"]):
        np.testing.assert_array_equal(Imputer(run).fit_transform(first), Imputer(run).fit_transform(second))
