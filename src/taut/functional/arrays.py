"""Arrays and numbers of a caller in Python: taken as they come, and given back as they came: numpy, pandas or torch."""

# pyright: strict, reportUnknownMemberType=false
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taut.errors import UserError

Array = Any
"""A numpy array, a pandas data frame, a torch tensor, or nested lists of numbers; what comes out is of the same kind,
and a list counts as a numpy array. The type checker cannot say so of three libraries at once."""


@dataclass(frozen=True)
class Kind:
    """What an array is, and so what is given back for it.

    Args:
        package: ``numpy``, ``pandas`` or ``torch``.
        dtype: The float type of what is given back: that of the input, or the default one of its library.
        device: Where a tensor was.
        columns: Names of the columns of a data frame.
        index: Labels of its rows.
    """

    package: str
    dtype: Any
    device: torch.device | None = None
    columns: tuple[Any, ...] = ()
    index: Any = None

    @classmethod
    def of(cls, x: Array) -> "Kind":
        """The kind of an array."""
        if isinstance(x, Tensor):
            dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
            return cls("torch", dtype, x.device)
        if is_frame(x):
            single = all(dtype == np.float32 for dtype in x.dtypes)
            return cls("pandas", np.float32 if single else np.float64, columns=tuple(x.columns), index=x.index)
        dtype = np.asarray(x).dtype
        return cls("numpy", dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64))

    def restored(self, values: Tensor, names: Sequence[Any] | str | None = None) -> Array:
        """Values in this kind.

        Args:
            values: The values, one row for each datum.
            names: Names of the columns of a data frame, or one word that they are numbered behind; those that came in
                by default. Labels of the rows are given to as many rows as came in.
        """
        values = values.detach()
        if self.package == "torch":
            return values.to(self.device, self.dtype)
        numbers = values.cpu().double().numpy().astype(self.dtype)
        if self.package == "numpy" or numbers.ndim > 2:
            return numbers
        pandas: Any = importlib.import_module("pandas")  # there, since a frame came in
        index = self.index if self.index is not None and len(self.index) == len(numbers) else None
        if numbers.ndim == 1:
            return pandas.Series(numbers, index=index, name=names if isinstance(names, str) else None)
        columns = [f"{names}{i}" for i in range(numbers.shape[1])] if isinstance(names, str) else names or self.columns
        return pandas.DataFrame(numbers, index=index, columns=list(columns))


def is_frame(x: object) -> bool:
    """Tell whether x is a data frame of pandas."""
    return type(x).__module__.partition(".")[0] == "pandas" and hasattr(x, "columns")


def tensor(x: Array, name: str = "x") -> Tensor:
    """X as a tensor: float32 where that loses nothing, as of bytes and booleans, else float64; NaN is a missing cell.

    Raises:
        UserError: If it holds something that is not a number.
    """
    if isinstance(x, Tensor):
        values = x.detach()
        if values.dtype in (torch.float32, torch.float64):
            return values
        return values.to(torch.float32 if values.element_size() < 4 else torch.float64)
    try:
        # a nullable column of pandas would be one of objects
        numbers = np.asarray(x.to_numpy(np.float64, na_value=np.nan) if is_frame(x) else x)
        single = numbers.dtype == np.float32 or numbers.dtype.itemsize < 4
        return torch.from_numpy(numbers.astype(np.float32 if single else np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name} cannot be read as an array of numbers ({error}); give numbers of one shape."
        ) from error


def matrix(x: Array, x_shape: Sequence[int] | None = None, name: str = "x") -> Tensor:
    """Data, one row for each datum, of a shape that a model knows.

    Args:
        x: The data.
        x_shape: Shape of one datum; any if not given.
        name: What the argument is called.

    Raises:
        UserError: If they are none, or of another shape, or infinite.
    """
    values = tensor(x, name)
    if values.dim() < 2 or not values.numel():
        raise UserError(
            f"{name} has shape {list(values.shape)}; it must hold at least one row, each of at least one number: shape "
            "[n, d], or [n, ...] for images."
        )
    if x_shape is not None and tuple(values.shape[1:]) != tuple(x_shape):
        raise UserError(
            f"{name} has rows of shape {list(values.shape[1:])}, and the model was trained on {list(x_shape)}; "
            "reshape it."
        )
    if values.isinf().any():
        raise UserError(f"{name} holds an infinite value; remove or replace it first.")
    return values


def whole(name: str, value: object, least: int = 1) -> int:
    """An argument that is a whole number, of Python or numpy.

    Raises:
        UserError: If it is none, or below ``least``.
    """
    # to Python True is a number
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise UserError(f"{name}={value!r} must be a whole number, {least} or more.")
    return int(value)
