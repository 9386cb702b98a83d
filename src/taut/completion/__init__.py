"""Missing cells: p(x_obs) as a sum over completions, and the completions themselves."""

import importlib
from typing import TYPE_CHECKING, Any

from taut.completion.complete import Completions, Fill, complete, fill_in
from taut.functional.missing import hide, observed

if TYPE_CHECKING:
    from taut.imputer import Imputer

__all__ = ["Completions", "Fill", "Imputer", "complete", "fill_in", "hide", "observed"]


def __getattr__(name: str) -> Any:
    """``Imputer`` stands above the runs it reads, so it is met only when it is asked for."""
    if name == "Imputer":
        return importlib.import_module("taut.imputer").Imputer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
