"""One contract for every yaml of conf/data, and what is particular to each data set."""

import importlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from hydra.utils import instantiate
from lightning.pytorch import LightningDataModule
from omegaconf import OmegaConf
from pieces import CONF, names
from scipy.io import loadmat, savemat
from sklearn import datasets
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from taut.data import digits
from taut.data.base import Data, Splits
from taut.data.caltech101_silhouettes import Caltech101Silhouettes
from taut.data.concrete import MEANS as MIXTURE_MEANS
from taut.data.concrete import ROWS, Concrete
from taut.data.digits import Digits
from taut.data.faithful import Faithful
from taut.data.frey_faces import FreyFaces
from taut.data.mnist import MNIST
from taut.data.omniglot import _LEVELS, Omniglot, shrink
from taut.data.readers.fetch import Remote, data_folder
from taut.data.scikit_learn import TABLES, ScikitLearn
from taut.errors import UserError
from taut.testing import check_data

SHAPES = {
    "digits": ((1, 8, 8), (1078, 359, 360)),
    "mnist": ((1, 28, 28), (50000, 10000, 10000)),
    "fashion_mnist": ((1, 28, 28), (50000, 10000, 10000)),
    "kmnist": ((1, 28, 28), (50000, 10000, 10000)),
    "emnist": ((1, 28, 28), (94000, 18800, 18800)),
    "cifar10": ((3, 32, 32), (45000, 5000, 10000)),
    "svhn": ((3, 32, 32), (66000, 7257, 26032)),
    "omniglot": ((1, 28, 28), (23045, 1345, 8070)),
    "caltech101_silhouettes": ((1, 28, 28), (4100, 2264, 2307)),
    "frey_faces": ((1, 28, 20), (1565, 200, 200)),
    "faithful": ((2,), (272, 272, 272)),
    "concrete": ((9,), (824, 103, 103)),
    "scikit_learn": ((4,), (150, 150, 150)),
    "synthetic": ((2,), (600, 200, 200)),
    "table": ((3,), (80, 10, 10)),
    "images": ((1, 8, 6), (80, 10, 10)),
}
IMAGES = {name for name, (shape, _) in SHAPES.items() if len(shape) == 3}
UNCUT = {"faithful", "scikit_learn"}
MEANS = {"mnist": 33.3184 / 255, "omniglot": 0.0805}


def missing(config) -> str | None:
    """Why a data set cannot be loaded without a network, if so."""
    module = importlib.import_module(config._target_.rpartition(".")[0])
    remotes = [value for value in vars(module).values() if isinstance(value, Remote)]
    remotes += [
        r for value in vars(module).values() if isinstance(value, tuple) for r in value if isinstance(r, Remote)
    ]
    folder = data_folder(None)
    lacking = [r.name for r in remotes if r.name != "chardata.mat" and not (folder / r.folder / r.name).exists()]
    return f"{', '.join(lacking)} not in {folder}" if lacking else None


def build(name: str, tmp_path: Path, **options) -> Data:
    config = OmegaConf.create({"seed": 0, "data": OmegaConf.load(CONF / "data" / f"{name}.yaml")}).data
    if reason := missing(config):
        pytest.skip(reason)
    if name == "table":
        options["path"] = tmp_path / "my.csv"
        np.savetxt(options["path"], np.random.default_rng(0).normal(size=(100, 3)), delimiter=",")
    if name == "concrete":
        options["dir"] = mixtures(tmp_path)
    if name == "images":
        options["path"] = tmp_path / "my.npy"
        np.save(options["path"], np.random.default_rng(0).integers(256, size=(100, 8, 6), dtype=np.uint8))
    return instantiate(config, **options)


def mixtures(folder: Path, add: float = 0.0, rows: int = ROWS, header: str = "") -> Path:
    """A data folder with a made table of the size of the published one, and of its means where nothing is added."""
    x = np.random.default_rng(0).normal(size=(rows, len(MIXTURE_MEANS)))
    x += np.array(list(MIXTURE_MEANS.values())) - x.mean(0)
    x[:, 3] += add
    (folder / "concrete").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "concrete/concrete.csv", x, fmt="%.2f", delimiter=",", header=header, comments="")
    return folder


@pytest.mark.parametrize("name", names("data"))
def test_contract(name, tmp_path):
    data = build(name, tmp_path)
    shape, sizes = SHAPES.get(name, (data.x_shape, tuple(map(len, data.stored))))
    assert data.name == name
    assert isinstance(data, LightningDataModule)
    assert type(data).__final__
    data.setup()
    assert data.x_shape == shape
    assert tuple(map(len, data.stored)) == sizes
    for rows in data.splits:
        assert rows.dtype == dtype_of(data)
        assert rows.isfinite().all()
        if name in IMAGES:
            assert 0 <= rows.min() < rows.max() <= 1
    check_data(partial(build, name, tmp_path))
    assert next(iter(data.train_dataloader())).x.dtype == dtype_of(data)
    check_disjoint(name, data.stored)
    if name in MEANS:
        everything = torch.cat([data.stored.train, data.stored.val]).double().mean() / data.scale.levels
        assert everything == pytest.approx(MEANS[name], abs=1e-3 if name == "omniglot" else 1e-6)


def dtype_of(data: Data) -> torch.dtype:
    """Numbers of a table keep the digits that an offset needs; pixels take the default."""
    numbers = data.binarisation == "none" and data.stored.train.dtype == torch.float64
    return torch.float64 if numbers else torch.get_default_dtype()


def check_disjoint(name: str, splits: Splits) -> None:
    """No row is in two splits more often than in the data set as a whole."""
    if name in UNCUT:
        return
    if name in ("synthetic", "table", "digits"):
        rows = [row.numpy().tobytes() for split in splits for row in split]
        whole = len(load_digits().data) if name == "digits" else len(rows)
        assert len(rows) == whole
        assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_scikit_learns(table):
    loaded = getattr(datasets, f"load_{table}")()
    data = ScikitLearn(batch_size=None, table=table)
    np.testing.assert_array_equal(data.rows_of("test").numpy(), loaded.data)
    assert data.columns == tuple(loaded.feature_names)
    rows = ScikitLearn(batch_size=None, table=table, standardise=True).rows_of("train").numpy()
    np.testing.assert_allclose(rows, StandardScaler().fit_transform(loaded.data), atol=1e-9)
    cut = ScikitLearn(batch_size=None, table=table, val_fraction=0.2, test_fraction=0.3)
    sizes = [len(rows) for rows in cut.splits]
    n = len(loaded.data)
    assert sizes == [n - round(0.2 * n) - round(0.3 * n), round(0.2 * n), round(0.3 * n)]
    assert cut.held_out
    assert not data.held_out


def test_an_unknown_table_is_refused():
    with pytest.raises(
        UserError, match=r"data\.table=boston is not known; choose breast_cancer, diabetes, iris or wine"
    ):
        ScikitLearn(batch_size=None, table="boston")


def test_digits_are_scikit_learns():
    data = Digits(batch_size=None)
    rows = torch.cat(list(data.splits)).reshape(-1, 64) * 16
    assert sorted(rows.int().tolist()) == sorted(load_digits().data.astype(int).tolist())
    assert Digits(batch_size=None, split_seed=1).digest != data.digest


def test_faithful_is_the_published_table(float64):
    data = Faithful(batch_size=None)
    rows = data.splits.train
    assert torch.allclose(rows.mean(0), torch.tensor([3.487783, 70.897059]), atol=5e-7)
    assert torch.allclose(rows.std(0), torch.tensor([1.141371, 13.594974]), atol=5e-7)
    assert data.columns == ("eruptions", "waiting")
    assert not data.held_out


@pytest.mark.parametrize(
    "header", ["", "a,b,c,d,e,f,g,h,i", '"Cement (component 1)(kg in a m^3 mixture)",b,c,d,e,f,g,h,i']
)
def test_concrete_is_known_by_its_size_and_means(tmp_path, header):
    data = Concrete(batch_size=None, dir=mixtures(tmp_path, header=header), val_fraction=0, test_fraction=0)
    assert data.stored.train.shape == (ROWS, 9)
    assert data.columns[0] == "cement"
    for number, changed in enumerate(({"add": 0.2}, {"rows": ROWS - 1})):
        folder = mixtures(tmp_path / str(number), **changed)
        with pytest.raises(UserError, match=r"is not the published table of 1030 rows and 9 columns.*data=table"):
            Concrete(batch_size=None, dir=folder).setup()
    with pytest.raises(UserError, match=r"concrete\.csv is not in .*save the table Concrete_Data\.xls"):
        Concrete(batch_size=None, dir=tmp_path / "nowhere").setup()


def test_faithful_can_hold_rows_out(float64):
    data = Faithful(batch_size=None, test_fraction=0.2)
    train, val, test = data.splits
    assert (len(train), len(test)) == (218, 54)
    assert data.held_out
    assert torch.equal(train, val)
    every = Faithful(batch_size=None).splits.train
    assert sorted(map(tuple, torch.cat([train, test]).tolist())) == sorted(map(tuple, every.tolist()))
    with pytest.raises(UserError, match=r"data.test_fraction=1.0 must be 0 or more and below 1"):
        Faithful(batch_size=None, test_fraction=1.0)


def test_no_file_and_no_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", offline)
    for data in (MNIST, Omniglot, Caltech101Silhouettes, FreyFaces):
        with pytest.raises(UserError, match=r"put the file there, or name another data folder") as caught:
            data(batch_size=1, dir=tmp_path).setup()
        assert "https://" in str(caught.value)
        assert "\n" not in str(caught.value)


def offline(*_):
    raise requests.ConnectionError("Name or service not known")


def test_omniglot_averages_areas_exactly():
    """Against a witness on the grid of 420x420 squares, where both grids are whole."""
    ink = np.random.default_rng(0).random((3, 105, 105)) < 0.3
    squares = ink.repeat(4, axis=1).repeat(4, axis=2)
    witness = squares.reshape(3, 28, 15, 28, 15).sum((2, 4))
    assert np.array_equal(shrink(ink), witness)
    assert shrink(np.ones((1, 105, 105), bool)).min() == _LEVELS


def test_omniglot_reads_chardata(tmp_path):
    """The published layout: a column a drawing, columns of pixels first."""
    (tmp_path / "omniglot").mkdir()
    train = np.zeros((784, 24345), np.uint8)
    train[28 * 3 + 5, 0] = 1  # pixel column 3, pixel row 5
    savemat(tmp_path / "omniglot/chardata.mat", {"data": train, "testdata": np.ones((784, 8070), np.uint8)})
    data = Omniglot(batch_size=100, variant="chardata", dir=tmp_path)
    assert data.splits.train[0, 0].nonzero().tolist() == [[5, 3]]
    assert tuple(map(len, data.stored)) == (23000, 1345, 8070)
    with pytest.raises(UserError, match="drawings or chardata"):
        Omniglot(batch_size=100, variant="burda")


def test_caltech_stands_upright_and_marks_the_object(tmp_path):
    """The file goes down the columns and marks the background."""
    data = build("caltech101_silhouettes", tmp_path)
    path = data_folder(None) / "caltech101-silhouettes/caltech101_silhouettes_28_split1.mat"
    row, column = np.divmod(np.arange(784), 28)
    for split, rows in zip(("train", "val", "test"), data.splits, strict=True):
        witness = 1 - loadmat(path)[f"{split}_data"][:, 28 * column + row]
        assert np.array_equal(rows.flatten(1).numpy(), witness)
    assert data.splits.train[..., 10:18, 10:18].mean() > 0.7


def test_frey_pixels_are_middles_of_grey_levels(tmp_path):
    """The file holds a face a column, rows of 20 pixels first, in bytes from 8 to 238."""
    data = build("frey_faces", tmp_path)
    witness = loadmat(data_folder(None) / "frey-faces/frey_rawface.mat")["ff"].T
    rows = torch.cat(list(data.splits)).reshape(-1, 560) * 256 - 0.5
    assert sorted(rows.round().int().tolist()) == sorted(witness.astype(int).tolist())
    assert data.splits.train.min() >= 8.5 / 256
    assert data.splits.train.max() <= 238.5 / 256


@pytest.mark.parametrize("validation", [0, 60000, -1])
def test_mnist_validation_leaves_training_images(tmp_path, validation):
    with pytest.raises(UserError, match="must leave training images"):
        build("mnist", tmp_path, validation=validation).setup()


def test_mnist_validation_is_the_end_of_the_training_images(tmp_path):
    short, long = (build("mnist", tmp_path, validation=v).stored for v in (400, 10000))
    assert len(short.train) == 59600
    assert torch.equal(short.val, long.val[-400:])
    assert torch.equal(short.test, long.test)


def test_the_pixels_of_the_digits_are_those_that_scikit_learn_loads_wherever_it_keeps_them(monkeypatch):
    """From its file, and from its loader where there is no such file."""
    expected = load_digits(return_X_y=True)[0]
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: pytest.fail("its loader, whose import takes long"))
    assert np.array_equal(digits.pixels(), expected)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda **_: (expected + 1, None))
    monkeypatch.setattr(digits.Path, "is_file", lambda _: False)
    assert np.array_equal(digits.pixels(), expected + 1)


def test_the_folder_comes_from_the_environment():
    for path in (CONF / "data").glob("*.yaml"):
        config = OmegaConf.load(path)
        if "dir" in config:
            assert config.dir == os.environ.get("TAUT_DATA")


@pytest.mark.parametrize("name", sorted(set(names("data")) - {"table", "images", "synthetic"}))
def test_the_licence_of_a_data_set_is_stated(name):
    """Beside what it is made of, and on the page of data."""
    assert (CONF / "data" / f"{name}.yaml").read_text().splitlines()[1].startswith("# Licence of the data: ")
    assert f"| `{name}` |" in (CONF.parent / "docs" / "data.md").read_text()
