"""The loader without Lightning: order, ranks, position, and noise that belongs to its row."""

import itertools
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from budget import THRESHOLD
from pieces import config

from taut.data.base import Data, Splits
from taut.data.batches import Batches
from taut.data.binarise import Scale, bernoulli, threshold
from taut.errors import UserError
from taut.functional import seeding


class Grey(Data):
    name: ClassVar[str] = "grey"
    scale = Scale(levels=255)
    rows = 2500  # more than two blocks of noise

    def load(self) -> Splits:
        pixels = torch.arange(self.rows * 3).reshape(self.rows, 1, 3) % 256
        return Splits(*[pixels.to(torch.uint8)] * 3)


def loader(rows, **options) -> Batches:
    return Batches(lambda epoch: torch.arange(rows * 2).reshape(rows, 2), rows, **options)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [4, 5, 7, 64, 101])
@pytest.mark.parametrize("batch_size", [4, 5, 1000, None])
def test_every_row_once_over_all_ranks(rows, batch_size, world):
    ranks = [list(loader(rows, batch_size=batch_size, shuffle=True, rank=r, world=world)) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert len(ranks[0]) == len(loader(rows, batch_size=batch_size, shuffle=True, world=world))
    index = torch.cat([batch.index for batches in ranks for batch in batches])
    assert torch.equal(index.sort().values, torch.arange(rows))
    for step in zip(*ranks, strict=True):
        assert {batch.total for batch in step} == {sum(len(batch.index) for batch in step)}
        assert min(len(batch.index) for batch in step) >= 1
        for batch in step:
            assert torch.equal(batch.x, torch.stack([2.0 * batch.index, 2.0 * batch.index + 1], 1))


@pytest.mark.parametrize("world", [2, 3])
def test_the_global_batch_is_that_of_one_process(world):
    alone = list(loader(23, batch_size=6, shuffle=True, seed=1))
    ranks = [list(loader(23, batch_size=6, shuffle=True, seed=1, rank=r, world=world)) for r in range(world)]
    for step, batch in zip(zip(*ranks, strict=True), alone, strict=True):
        assert set(torch.cat([part.index for part in step]).tolist()) == set(batch.index.tolist())


def test_a_last_batch_smaller_than_the_ranks_joins_the_one_before():
    assert [batch.total for batch in loader(9, batch_size=4, world=2)] == [4, 5]
    assert [batch.total for batch in loader(10, batch_size=4, world=2)] == [4, 4, 2]


def test_evaluation_works_with_fewer_rows_than_ranks():
    sizes = [[len(batch.index) for batch in loader(1, rank=r, world=2)] for r in (0, 1)]
    assert sizes == [[1], [0]]


def test_training_with_fewer_rows_than_ranks_is_refused():
    with pytest.raises(UserError, match="cannot be shared by 4 processes"):
        loader(10, batch_size=2, shuffle=True, world=4)


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = loader(50, batch_size=8, shuffle=True, seed=seed)
        batches.sampler.set_epoch(epoch)
        return torch.cat([batch.index for batch in batches]).tolist()

    orders = [order(seed, epoch) for seed, epoch in itertools.product((0, 1), (0, 1))]
    assert orders == [order(seed, epoch) for seed, epoch in itertools.product((0, 1), (0, 1))]
    assert len(set(map(tuple, orders))) == 4
    assert torch.cat([batch.index for batch in loader(50, batch_size=8)]).tolist() == list(range(50))


@pytest.mark.parametrize("stop", range(6))
def test_position_is_kept(stop):
    batches = loader(22, batch_size=4, shuffle=True)
    batches.set_epoch(5)
    passing = iter(batches)
    for _ in range(stop):
        next(passing)
    resumed = loader(22, batch_size=4, shuffle=True)
    resumed.load_state_dict(batches.state_dict())
    early = iter(resumed)  # Lightning makes the iterator first and names the epoch afterwards
    resumed.set_epoch(5)
    assert len(resumed) == 6
    assert [b.index.tolist() for b in early] == [b.index.tolist() for b in passing]
    assert len(list(resumed)) == 6


def test_one_batch_of_all_rows_is_the_rows_themselves(float64):
    rows = torch.randn(20, 2)
    for options in ({"batch_size": None, "shuffle": True}, {"batch_size": 7}):
        first = next(iter(Batches(lambda epoch: rows, 20, **options)))
        assert first.x.data_ptr() == rows.data_ptr()


@pytest.mark.parametrize(("minibatch", "ordered"), [("false", True), ("true", False)])
def test_rows_are_shuffled_unless_the_sums_of_an_epoch_do_not_care(minibatch, ordered):
    cfg = config("model=mog", f"objective.minibatch={minibatch}")
    data = Grey(batch_size=700, shuffle=cfg.data.shuffle)
    found = torch.cat([batch.index for batch in data.train_dataloader()])
    assert torch.equal(found, torch.arange(2500)) == ordered
    assert torch.equal(found.sort().values, torch.arange(2500))


def test_scores_take_few_rows_at_once_whatever_a_training_batch_has(monkeypatch):
    monkeypatch.setattr("taut.data.base.SCORED", 1000)
    data = Grey(batch_size=None)
    sizes = [[len(batch.x) for batch in batches] for batches in (data.train_dataloader(), data.test_dataloader())]
    assert sizes == [[2500], [1000, 1000, 500]]


def test_behind_the_last_batch_stands_the_next_epoch():
    batches = loader(8, batch_size=4, shuffle=True)
    list(batches)
    resumed = loader(8, batch_size=4, shuffle=True)
    resumed.load_state_dict(batches.state_dict())
    batches.set_epoch(1)
    assert [b.index.tolist() for b in resumed] == [b.index.tolist() for b in batches]


def test_a_position_of_another_epoch_is_forgotten():
    batches = loader(8, batch_size=4, shuffle=True)
    batches.load_state_dict({**batches.state_dict(), "position": 1})
    batches.set_epoch(1)
    assert len(list(batches)) == 2


def rows_of(batches: Batches) -> torch.Tensor:
    found = list(batches)
    x, index = torch.cat([b.x for b in found]), torch.cat([b.index for b in found])
    return x[index.argsort()]


def test_noise_belongs_to_the_row():
    """Neither batch size, order, rank nor the number of rows behind it changes the noise of a row."""
    small, large = Grey(batch_size=7, binarisation="dynamic"), Grey(batch_size=None, binarisation="dynamic")
    for epoch in (0, 3):
        loaders = [data.train_dataloader() for data in (small, large)]
        for each in loaders:
            each.set_epoch(epoch)
        assert torch.equal(rows_of(loaders[0]), rows_of(loaders[1]))
    fewer = bernoulli(large.stored.train[:1500], large.scale, 0, "train", 0)
    assert torch.equal(large.training_rows()[:1500], fewer.to(torch.get_default_dtype()))


def test_dynamic_draws_follow_epoch_and_seed_in_training_only():
    draws = [rows_of(Grey(batch_size=9, binarisation="dynamic", seed=s).train_dataloader()) for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    data = Grey(batch_size=9, binarisation="dynamic")
    batches = data.train_dataloader()
    assert torch.equal(draws[0], data.training_rows())
    batches.set_epoch(1)
    assert not torch.equal(rows_of(batches), draws[0])
    for name in ("val", "test"):
        evaluated = [
            getattr(Grey(batch_size=9, binarisation="dynamic", seed=s), f"{name}_dataloader")() for s in (0, 1)
        ]
        evaluated[1].set_epoch(4)
        assert torch.equal(rows_of(evaluated[0]), rows_of(evaluated[1]))


def test_splits_have_their_own_noise():
    data = Grey(batch_size=None, binarisation="fixed")
    train, val, test = (rows_of(getattr(data, f"{s}_dataloader")()) for s in ("train", "val", "test"))
    assert not torch.equal(train, val)
    assert not torch.equal(val, test)


def test_fixed_is_drawn_once():
    loaders = [Grey(batch_size=9, binarisation="fixed", seed=s).train_dataloader() for s in (0, 1)]
    loaders[1].set_epoch(2)
    assert torch.equal(rows_of(loaders[0]), rows_of(loaders[1]))


@pytest.mark.parametrize("scale", [Scale(levels=255), Scale(levels=16), Scale(levels=256, offset=0.5)])
def test_bits_have_the_probability_of_the_pixel(scale):
    levels = min(scale.levels, 255)
    n = 4000
    values = torch.arange(levels + 1).to(torch.uint8).repeat(n, 1)
    bits = bernoulli(values, scale, seed=11, stream="train", epoch=0).double().mean(0)
    p = (torch.arange(levels + 1) + scale.offset).double() / scale.levels
    sd = (p * (1 - p) / n).sqrt()
    assert ((bits - p).abs() <= THRESHOLD * sd + 1e-12).all()
    if scale.offset == 0:
        assert bits[0] == 0
        assert bits[-1] == 1


def test_float_pixels_have_their_probability():
    p = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    bits = bernoulli(p.repeat(40000, 1), Scale(), seed=1, stream="val", epoch=0).double().mean(0)
    assert ((bits - p).abs() <= THRESHOLD * (p * (1 - p) / 40000).sqrt()).all()


def test_threshold_is_at_one_half():
    assert threshold(torch.tensor([0, 127, 128, 255]).byte(), Scale(255)).tolist() == [0, 0, 1, 1]
    assert threshold(torch.tensor([7, 8, 9]).byte(), Scale(16)).tolist() == [0, 1, 1]
    assert threshold(torch.tensor([0.49, 0.5]), Scale()).tolist() == [0, 1]
    assert threshold(torch.tensor([127, 128]).byte(), Scale(256, 0.5)).tolist() == [0, 1]


def test_bytes_decode_in_the_default_dtype(float64):
    batch = next(iter(Grey(batch_size=2).val_dataloader()))
    assert batch.x.dtype == torch.float64
    assert batch.x.flatten().tolist() == [v / 255 for v in range(6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"batch_size": -1}, "batch_size=-1 must be"),
        ({"batch_size": 1.5}, "batch_size=1.5 must be"),
        ({"batch_size": 1, "shuffle": "maybe"}, "shuffle='maybe' must be true or false"),
        ({"batch_size": 1, "binarisation": "dynamical"}, "choose one of dynamic, fixed, threshold, none"),
        ({"batch_size": 1, "seed": -1}, "0 or more"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        Grey(**options)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1024, 9), (3, 5, 7)])
def test_a_byte_is_binarised_by_the_numbers_that_numpy_draws(shape):
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8))
    for epoch in range(20):
        bits = bernoulli(values, Scale(levels=255), 1, "train", epoch)
        below = seeding.generator(1, "train", epoch, 0).integers(0, 255, values.shape, dtype=np.uint8)
        assert np.array_equal(bits, below < values.numpy())


@pytest.mark.parametrize("value", [-0.1, 1.0000001, 255.0])
def test_grey_beyond_the_unit_interval_cannot_be_binarised(monkeypatch, value):
    rows = torch.full((4, 3), 0.5, dtype=torch.float64)
    rows[2, 1] = value
    monkeypatch.setattr(Grey, "scale", Scale())
    monkeypatch.setattr(Grey, "load", lambda self: Splits(rows, rows, rows))
    with pytest.raises(UserError, match=r"row 2, column 1 holds .* cannot be binarised"):
        Grey(batch_size=2, binarisation="dynamic").setup()
    Grey(batch_size=2).setup()


def test_a_batch_of_a_hundred_binary_images_costs_under_a_millisecond(monkeypatch):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (10000, 1, 28, 28), dtype=np.uint8))
    monkeypatch.setattr(Grey, "load", lambda self: Splits(pixels, pixels[:10], pixels[:10]))
    batches = Grey(batch_size=100, binarisation="dynamic").train_dataloader()
    start = time.process_time()
    count = sum(1 for _ in batches)
    assert (time.process_time() - start) / count <= 0.9e-3
