"""zuko's flows as q and as prior."""

from copy import deepcopy
from typing import Any


def in_float64(flow: Any) -> Any:
    """A copy of a flow whose networks compute in float64: from x to its distribution.

    z is drawn and scored with the very numbers of the flow's parameters, and the networks inside of its transforms take
    z in no other precision than their own.
    """
    return deepcopy(flow).eval().double()
