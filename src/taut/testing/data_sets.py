"""The contract of a data set."""

from collections.abc import Callable
from inspect import isabstract
from typing import Any

import torch

from taut.data.base import Data, Splits
from taut.testing.rules import require, require_same


def check_data(build: Callable[..., Data], **options: Any) -> None:
    """Hold a data set against its contract: three splits of one shape, the same for every ``seed``.

    No split is empty; rows are finite numbers, or missing cells behind a mask; batches have them with their row
    numbers, and binarised ones hold zeros and ones; splits share no row's memory, unless two are one and the same.

    Args:
        build: Builds the data set from the arguments of ``Data``, such as its class.
        options: What to build it with, besides ``seed``; by default ``batch_size`` is 10.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    data = build(**{"batch_size": 10, **options}, seed=0)
    require(isinstance(data, Data), "a data set is a taut.data.base.Data", "one", type(data).__name__)
    require(isinstance(getattr(data, "name", None), str), "a data set has a name", "a text in name", "none")
    require(not isabstract(type(data)), "a data set implements load", "load", "none")
    data.setup()
    shape = tuple(data.x_shape)
    for split, rows in zip(Splits._fields, data.splits, strict=True):
        require(len(rows) > 0, f"the {split} split has rows", "1 or more", len(rows))
        require_same(tuple(rows.shape[1:]), shape, f"the shape of a row of the {split} split")
        if isinstance(rows, torch.Tensor):
            allowed = rows.isfinite() if data.mask is None else ~rows.isinf()
            require(allowed.all(), f"the {split} split holds numbers", "finite ones", "NaN or infinity")
            pixels = data.binarisation == "none" or bool(((rows >= 0) & (rows <= 1) | rows.isnan()).all())
            require(pixels, f"pixels of the {split} split are in [0, 1]", "a scale that decodes them", "others")
    _check_memory(data.stored)
    _check_batches(data)
    again = build(**{"batch_size": 10, **options}, seed=1)
    require_same(again.digest, data.digest, "splits do not depend on the seed of a run, but on split_seed")


def _check_memory(stored: Splits) -> None:
    tensors = {id(rows): rows for rows in stored if isinstance(rows, torch.Tensor)}.values()
    starts = {rows.data_ptr() for rows in tensors}
    require_same(len(starts), len(tensors), "splits that differ share no memory")


def _check_batches(data: Data) -> None:
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        batch = next(iter(loader))
        size = min(data.batch_size or loader.rows, loader.rows)
        require_same(tuple(batch.x.shape), (len(batch.index), *data.x_shape), "the shape of a batch")
        require_same(batch.index.dtype, torch.int64, "the type of row numbers")
        require_same((len(batch.index), batch.total), (size, size), "the rows of the first batch")
        require(batch.x.is_floating_point(), "batches hold floating-point numbers", "them", batch.x.dtype)
        if data.binarisation != "none":
            values = set(batch.x[~batch.x.isnan()].unique().tolist())
            require(values <= {0.0, 1.0}, "binarised pixels", "zeros and ones", sorted(values)[:3])
    rows = data.training_rows()
    require_same(tuple(rows.shape), (len(data.stored.train), *data.x_shape), "the shape of the training rows")
