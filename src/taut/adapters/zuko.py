"""zuko's flows as q and as prior."""

from copy import deepcopy
from typing import Any


def is_flow(given: Any) -> bool:
    """Tell whether something is of a class of zuko's."""
    return any(kind.__module__.startswith("zuko.") for kind in type(given).__mro__)


def in_float64(flow: Any) -> Any:
    """A copy of a flow whose networks compute in float64: from x to its distribution.

    z is drawn and scored with the very numbers of the flow's parameters, and the networks inside of its transforms take
    z in no other precision than their own.
    """
    return deepcopy(flow).eval().double()
