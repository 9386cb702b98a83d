"""Data read from a file in a test: what it holds, or the sentence with which it is refused."""

import pytest

from taut.data.images import Images
from taut.data.table import Table
from taut.errors import UserError


def table(path, **options) -> Table:
    """A table, all rows of which are for training."""
    return _read(Table, path, options)


def images(path, **options) -> Images:
    """Images, all of which are for training."""
    return _read(Images, path, options)


def refused(read, path, **options) -> str:
    """The one sentence with which ``table`` or ``images`` refuses a file."""
    with pytest.raises(UserError) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def _read(kind, path, options):
    data = kind(**{"path": path, "batch_size": None, "val_fraction": 0, "test_fraction": 0, **options})
    data.setup()
    return data
