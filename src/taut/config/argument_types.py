"""The types of arguments: what a constructor is annotated with, held against the plain values of a config."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import Parameter
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from taut.errors import UserError


def check_type(key: str, value: Any, annotation: Any) -> None:
    """Refuse a value of another type than the argument it is for.

    A text is no list, ``true`` is no number, ``'3'`` is no integer, and NaN and infinity are no numbers.

    Raises:
        UserError: Naming the key, what is expected and what was given.
    """
    adapter = _adapter(annotation)
    if adapter is None:
        return
    try:
        # as JSON: there a list may be a tuple and a text a path, while scalars are as strict as everywhere
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise UserError(
            f"{key} must be {expected(annotation) or 'what its _target_ builds'}, got {value!r}."
        ) from error


def json_schema(annotation: Any) -> dict[str, Any]:
    """The JSON schema of the plain values of a type; that of all values for a type that says nothing of them."""
    adapter = _adapter(annotation)
    try:
        return {} if adapter is None else adapter.json_schema()
    except PydanticUserError:  # a type some of whose values only a program can make
        return {}


def expected(annotation: Any) -> str:
    """What a value of a type is, in the words of refusals; empty for a type that says nothing of plain values."""
    words = dict.fromkeys(_words(annotation))
    return listed(words) if words else ""


def _adapter(annotation: Any) -> TypeAdapter | None:
    if annotation is Parameter.empty:
        return None
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))
    except (PydanticUserError, SchemaError):  # a type that says nothing of plain values
        return None


PLAIN = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true, false", "true and false"),
    NoneType: ("null", "nulls"),
}
"""One of a type, and several."""


def _words(annotation: Any, several: bool = False) -> Iterator[str]:
    """The types a config can give, in words; objects that only a program can give are left out."""
    kind, parts = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        yield PLAIN[annotation][several]
    elif kind is Literal:
        yield from map(str, parts)
    elif kind in (Union, UnionType):
        for part in parts:
            yield from _words(part, several)
    elif kind in (list, tuple, set, Sequence, Iterable):
        inner = dict.fromkeys(word for part in parts if part is not ... for word in _words(part, several=True))
        # of objects alone a config cannot make a list
        yield from [f"a list of {listed(inner)}"] if inner else []
    elif kind in (dict, Mapping):
        yield "a mapping"
    elif annotation is Path or annotation is PathLike or kind is PathLike:
        yield "a text"


def listed(words: Iterable[str]) -> str:
    """The words with commas between them, and ``or`` before the last.

    >>> listed(["a", "b", "c"])
    'a, b or c'
    """
    *others, last = [word for part in words for word in part.split(", ")]
    return f"{', '.join(others)} or {last}" if others else last
