"""Missing cells: p(x_obs) as a sum over completions, and the completions themselves."""

import importlib
from typing import TYPE_CHECKING, Any

from taut.completion.complete import Completions, Fill, complete, fill_in
from taut.completion.rubin import Pooled, pool
from taut.functional.missing import apply_mask, observed

if TYPE_CHECKING:
    from taut.completion.imputer import Imputer

__all__ = ["Completions", "Fill", "Imputer", "Pooled", "apply_mask", "complete", "fill_in", "observed", "pool"]


def __getattr__(name: str) -> Any:
    """``Imputer`` stands above the runs it reads, so it is met only when it is asked for."""
    if name == "Imputer":
        return importlib.import_module("taut.completion.imputer").Imputer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
