"""Missing cells: p(x_obs) as a sum over completions, and the completions themselves."""

from taut.completion.complete import Completions, complete
from taut.holes import hide, observed

__all__ = ["Completions", "complete", "hide", "observed"]
