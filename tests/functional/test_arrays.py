"""Arrays of every kind in, and the same kind out."""

import numpy as np
import pandas
import pytest
import torch

from taut.errors import UserError
from taut.functional.arrays import Kind, matrix, tensor, whole


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.array([[True, False]]), torch.float32),
        (np.array([[0, 255]], dtype=np.uint8), torch.float32),
        (np.array([[1.5]], dtype=np.float16), torch.float32),
        (np.array([[1.5]], dtype=np.float32), torch.float32),
        (np.array([[2**24 + 1]]), torch.float64),
        ([[0.1, 2]], torch.float64),
        (torch.tensor([[1]], dtype=torch.int64), torch.float64),
        (torch.tensor([[True]]), torch.float32),
        (torch.tensor([[1.5]], dtype=torch.bfloat16), torch.float32),
        (torch.tensor([[0.1]], dtype=torch.float64), torch.float64),
    ],
    ids=str,
)
def test_numbers_lose_nothing(x, dtype):
    values = tensor(x)
    assert values.dtype == dtype
    np.testing.assert_array_equal(
        values.double().numpy(), np.asarray(x if not isinstance(x, torch.Tensor) else x.double())
    )


def test_a_nullable_column_of_pandas_has_missing_cells():
    frame = pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64"), "b": [0.5, 1.5]})
    assert tensor(frame).isnan().tolist() == [[False, False], [True, False]]


def test_values_come_back_as_what_went_in():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    assert Kind.of(np.zeros((2, 2), np.float32)).restored(values).dtype == np.float32
    assert Kind.of([[1, 2]]).restored(values).dtype == np.float64
    assert Kind.of(torch.zeros(2, 2, dtype=torch.bfloat16)).restored(values).dtype == torch.bfloat16
    frame = pandas.DataFrame(np.zeros((2, 2), np.float32), columns=["a", "b"], index=["x", "y"])
    back = Kind.of(frame).restored(values)
    assert list(back.columns) == ["a", "b"]
    assert list(back.index) == ["x", "y"]
    assert set(back.dtypes) == {np.dtype("float32")}
    assert list(Kind.of(frame).restored(values, names="z").columns) == ["z0", "z1"]
    assert Kind.of(frame).restored(values[:, 0], names="log_px").name == "log_px"
    assert Kind.of(frame).restored(torch.zeros(2, 1, 4, 4)).shape == (2, 1, 4, 4)  # no frame has more than two axes


REFUSED = {
    "ragged lists": ([[1.0], [1.0, 2.0]], "x cannot be read as an array of numbers"),
    "no rows": (np.zeros((0, 3)), r"x has shape \[0, 3\]; it must hold at least one row"),
    "another shape": (np.zeros((2, 4)), r"x has rows of shape \[4\], and the model was trained on \[3\]; reshape it\."),
    "infinity": (np.full((1, 3), -np.inf), r"x holds an infinite value; remove or replace it first\."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_is_refused(name):
    x, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        matrix(x, (3,))


def test_whole_numbers_are_those_of_python_and_numpy():
    assert type(whole("k", np.int64(3))) is int
    for value in (True, 0, 1.0, "1"):
        with pytest.raises(UserError, match=r"k=.* must be a whole number, 1 or more\."):
            whole("k", value)
