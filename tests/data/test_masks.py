"""One contract for every entry of conf/mask: a new mask is tested by adding its file and its yaml."""

import numpy as np
import pytest
import torch
from budget import THRESHOLD
from hydra import compose, initialize_config_dir
from pieces import CONF, names

from taut.config.check import check
from taut.config.instantiate import instantiate
from taut.data.mask.base import Mask, Region, TableMask
from taut.data.mask.cells import BLOCK, File, FromData, Random
from taut.data.mask.regions import QUADRANTS, Quadrants, Square
from taut.data.mask.table import AboveMean, ExactRate
from taut.data.scikit_learn import ScikitLearn
from taut.errors import UserError
from taut.testing import check_mask

IMAGE = (1, 8, 8)
TABLE = ("above_mean", "exact_rate")
"""Masks that look at all rows together."""


def _made(name: str, folder, x_shape=IMAGE) -> Mask:
    """The mask as the command line would build it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"mask={name}"])
    check(cfg)
    if name == "file":
        np.save(folder / "mask.npy", np.arange(np.prod(x_shape)).reshape(x_shape) % 3 > 0)
        cfg.mask.path = str(folder / "mask.npy")
    return instantiate(cfg.mask)


@pytest.mark.parametrize("name", names("mask"))
def test_a_mask_keeps_its_contract(name, tmp_path):
    mask = _made(name, tmp_path)
    check_mask(mask, IMAGE)
    if isinstance(mask, TableMask):
        seen = mask.observed(torch.randn(5, *IMAGE))
        with pytest.raises(UserError, match=f"mask={name} looks at the numbers of all rows"):
            mask.draw(5, IMAGE, seed=1, stream="train")
    else:
        seen = mask.draw(5, IMAGE, seed=1, stream="train")
    assert seen.all() if name == "from_data" else 0 < seen.float().mean() < 1
    assert not mask.fresh


@pytest.mark.parametrize("name", [name for name in names("mask") if name not in ("random", *TABLE)])
def test_what_is_not_drawn_hides_the_same_in_every_datum(name, tmp_path):
    mask = _made(name, tmp_path)
    first, other = (mask.draw(4, IMAGE, seed=seed, stream=stream) for seed, stream in ((1, "train"), (2, "val")))
    assert torch.equal(first, other)
    assert torch.equal(first, first[:1].expand_as(first))


def _picture(mask: Mask, x_shape) -> list[str]:
    """Rows of an image, ``.`` where it is observed; every channel is alike."""
    seen = mask.draw(1, x_shape, seed=0, stream="x")[0]
    assert torch.equal(seen, seen[:1].expand_as(seen))
    return ["".join(".#"[not cell] for cell in row) for row in seen[0].tolist()]


def _region(name: str) -> Mask:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("train", [f"mask={name}"]).mask)


EVEN = {
    "top_half": ["########"] * 4 + ["........"] * 4,
    "bottom_half": ["........"] * 4 + ["########"] * 4,
    "left_half": ["####...."] * 8,
    "quadrants": ["########"] * 4 + ["....####"] * 4,
    "square": ["........"] * 2 + ["..####.."] * 4 + ["........"] * 2,
}
ODD = {
    "top_half": ["#####"] * 3 + ["....."] * 4,
    "bottom_half": ["....."] * 4 + ["#####"] * 3,
    "left_half": ["##..."] * 7,
    "quadrants": ["#####"] * 3 + ["..###"] * 4,
    "square": ["....."] + [".##.."] * 4 + ["....."] * 2,
}


def test_every_region_has_its_picture():
    regions = {name for name in names("mask") if name not in ("file", "from_data", "random", *TABLE)}
    assert regions == EVEN.keys() == ODD.keys()


@pytest.mark.parametrize("name", EVEN)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_regions(name, channels):
    assert _picture(_region(name), (channels, 8, 8)) == EVEN[name]
    assert _picture(_region(name), (channels, 7, 5)) == ODD[name]


def test_every_quadrant_is_where_its_name_says():
    up, down = ["....####"] * 4, ["########"] * 4
    assert _picture(Quadrants(["upper_right"]), IMAGE) == up + ["........"] * 4
    assert _picture(Quadrants(["lower_left", "lower_right"]), IMAGE) == ["........"] * 4 + down
    assert _picture(Quadrants(["lower_left"]), (1, 3, 3)) == ["...", "#..", "#.."]
    hidden = sum(~Quadrants([name]).draw(1, (1, 7, 5), seed=0, stream="x").int() + 2 for name in QUADRANTS)
    assert (hidden == 1).all()  # the four divide the image


@pytest.mark.parametrize(("side", "size"), [(1.0, (8, 8)), (0.25, (2, 2)), (0.01, (1, 1))])
def test_a_square_has_its_side_and_stands_in_the_middle(side, size):
    hidden = ~Square(side).draw(1, IMAGE, seed=0, stream="x")[0, 0]
    rows, columns = (hidden.any(axis).nonzero() for axis in (1, 0))
    assert (len(rows), len(columns)) == size
    assert int(rows[0] + rows[-1]) in (6, 7)
    assert int(hidden.sum()) == size[0] * size[1]


@pytest.mark.parametrize("name", EVEN)
@pytest.mark.parametrize("x_shape", [(5,), (2, 3)])
def test_regions_are_for_images(name, x_shape):
    with pytest.raises(
        UserError, match=rf"mask={name} hides a part of an image .* mask=random, or from_data"
    ) as caught:
        _region(name).draw(3, x_shape, seed=0, stream="train")
    assert "\n" not in str(caught.value)


def test_unknown_quadrants_are_refused():
    for hidden in (["middle"], [], ["upper_left", "upper"]):
        with pytest.raises(UserError, match=r"mask\.quarters must be one or more of upper_left, upper_right"):
            Quadrants(hidden)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_cells_are_hidden_at_their_rate_and_independently(rate):
    """Rate of all, of every cell, and of every pair of neighbours, each within its standard error."""
    n = 20000
    hidden = (~Random(rate).draw(n, (6,), seed=0, stream="train")).double()
    error = (rate * (1 - rate) / n) ** 0.5
    assert abs(hidden.mean() - rate) <= THRESHOLD * error / 6**0.5
    assert ((hidden.mean(0) - rate).abs() <= THRESHOLD * error).all()
    both = (hidden - rate).T @ (hidden - rate) / n
    off = both - torch.diag(both.diagonal())
    assert off.abs().max() <= THRESHOLD * rate * (1 - rate) / n**0.5
    follow = ((hidden[1:] - rate) * (hidden[:-1] - rate)).mean(0)
    assert follow.abs().max() <= THRESHOLD * rate * (1 - rate) / (n - 1) ** 0.5


def test_the_random_mask_of_a_row_does_not_depend_on_the_number_of_rows():
    whole = Random().draw(2 * BLOCK + 5, (3,), seed=4, stream="val")
    for rows in (1, BLOCK - 1, BLOCK, BLOCK + 1):
        assert torch.equal(Random().draw(rows, (3,), seed=4, stream="val"), whole[:rows])
    assert not torch.equal(whole[:BLOCK], whole[BLOCK : 2 * BLOCK])


def test_streams_and_seeds_are_independent():
    n = 4000
    draws = [
        (~Random(0.5).draw(n, (4,), seed=seed, stream=stream)).double().flatten() - 0.5
        for seed, stream in ((0, "train"), (0, "val"), (0, "test"), (0, "train/0"), (0, "train/1"), (1, "train"))
    ]
    both = torch.stack(draws) @ torch.stack(draws).T / (4 * n)
    assert (both - torch.diag(both.diagonal())).abs().max() <= THRESHOLD * 0.25 / (4 * n) ** 0.5


def test_a_file_may_leave_out_the_channels(tmp_path):
    seen = np.random.default_rng(0).random((7, 5)) < 0.5
    np.save(tmp_path / "mask.npy", seen)
    drawn = File(tmp_path / "mask.npy").draw(2, (3, 7, 5), seed=0, stream="train")
    assert torch.equal(drawn, torch.from_numpy(seen).expand(2, 3, 7, 5))


BAD = {
    "floats": (np.ones((8, 8)), "holds float64; a mask is one array of booleans"),
    "with NaN": (np.full((8, 8), np.nan), "holds float64 with NaN; a mask is one array of booleans"),
    "bytes": (np.ones((8, 8), np.uint8), "holds uint8; a mask is one array of booleans"),
    "objects": (np.array([[None]]), "cannot be read as an NPY file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_of_no_booleans_is_refused(kind, tmp_path):
    array, message = BAD[kind]
    np.save(tmp_path / "mask.npy", array)
    with pytest.raises(UserError) as caught:
        File(tmp_path / "mask.npy")
    assert message in str(caught.value)
    assert str(tmp_path / "mask.npy") in str(caught.value)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"mask=file needs a file: add mask\.path="):
        File(None)
    (tmp_path / "text.npy").write_text("1,0,1\n")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "several.npz", a=np.ones(3, bool), b=np.ones(3, bool))
    for name in ("none.npy", "text.npy", "empty.npy", "."):
        with pytest.raises(UserError, match="cannot be read as an NPY file"):
            File(tmp_path / name)
    with pytest.raises(UserError, match="holds several arrays"):
        File(tmp_path / "several.npz")


@pytest.mark.parametrize("shape", [(8, 7), (1, 7, 8), (64,), (5, 1, 8, 8), ()])
def test_a_file_of_another_shape_is_refused(shape, tmp_path):
    np.save(tmp_path / "mask.npy", np.ones(shape, bool))
    with pytest.raises(UserError, match=r"has shape \[.*\], but one datum \[1, 8, 8\]"):
        File(tmp_path / "mask.npy").draw(5, IMAGE, seed=0, stream="train")


def test_every_region_is_a_region(tmp_path):
    assert {name for name in names("mask") if isinstance(_made(name, tmp_path), Region)} == EVEN.keys()
    assert FromData().draw(2, (3,), seed=0, stream="x").all()


def test_an_exact_rate_hides_the_cells_of_numpy_s_older_generator():
    """The notebook: numpy.random.seed(1234), then numpy.random.choice of floor(n p / 2) cells of the flat table."""
    state = np.random.RandomState(1234)
    chosen = state.choice(7 * 3, 10, replace=False)
    hidden = ~ExactRate().observed(torch.zeros(7, 3))
    assert sorted(hidden.flatten().nonzero().flatten().tolist()) == sorted(chosen)
    assert int((~ExactRate(0.3, seed=2).observed(torch.zeros(7, 3))).sum()) == 6


def test_what_is_above_the_mean_is_hidden_in_the_first_half_of_the_columns():
    x = torch.tensor([[0.0, 5.0, 1.0], [1.0, 0.0, 9.0], [5.0, 1.0, 1.0]])  # means 2, 2 and 3.67; one column of three
    assert AboveMean().observed(x).tolist() == [[True] * 3, [True] * 3, [False, True, True]]
    x[1, 0] = torch.nan  # the mean of the others is 2.5
    assert AboveMean().observed(x)[:, 0].tolist() == [True, True, False]


@pytest.mark.parametrize(("mask", "hidden"), [(ExactRate(), 569 * 30 // 2), (AboveMean(), 3405)])
def test_a_data_set_keeps_the_truth_behind_the_mask_of_a_table(mask, hidden):
    """What complete.py holds completions against; the count of AboveMean is that of numpy."""
    data = ScikitLearn(table="breast_cancer", standardise=True, batch_size=None, mask=mask)
    x, truth = data.rows_of("test"), data.complete_rows_of("test")
    assert int(x.isnan().sum()) == hidden
    assert not truth.isnan().any()
    assert torch.equal(x[~x.isnan()], truth[~x.isnan()])
