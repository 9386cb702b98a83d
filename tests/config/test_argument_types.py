"""A value is of the type that the argument is annotated with, as strictly as a program would be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from torch import Tensor

from taut.config.argument_types import check_type
from taut.errors import UserError

NAN, INF = float("nan"), float("inf")
REFUSED = [
    ("abc", list[str] | None, "a list of texts or null, got 'abc'"),
    ("xy", Sequence[int], "a list of integers, got 'xy'"),
    (True, int, "an integer, got True"),
    ("3", int, "an integer, got '3'"),
    (1.0, int, "an integer, got 1.0"),
    (NAN, float, "a number, got nan"),
    (INF, float | Tensor, "a number, got inf"),
    ([0.9, NAN], tuple[float | Tensor, float | Tensor], "a list of numbers, got [0.9, nan]"),
    ([0.9], tuple[float, float], "a list of numbers, got [0.9]"),
    (1, bool | None, "true, false or null, got 1"),
    (5, str | Path | None, "a text or null, got 5"),
    ("mid", Literal["min", "max"], "min or max, got 'mid'"),
    ({}, Tensor, "what its _target_ builds, got {}"),
]


@pytest.mark.parametrize(("value", "annotation", "said"), REFUSED)
def test_another_type_is_refused(value, annotation, said):
    with pytest.raises(UserError) as caught:
        check_type("group.key", value, annotation)
    assert str(caught.value) == f"group.key must be {said}."


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(3, float), (0.5, float | Tensor), ([1, 2], Sequence[int]), ([0.9, 1], tuple[float, float]), ("x", str | Path)],
)
def test_what_a_program_would_take_is_let_through(value, annotation):
    check_type("group.key", value, annotation)
