"""taut: train latent-variable models and measure how tight their bounds are.

>>> import taut
>>> "VAE" in dir(taut)
True
"""

# pyright: strict
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taut import evidence
    from taut.api.audit import audit
    from taut.api.evaluate import EvaluationReport, evaluate
    from taut.api.mixture import GaussianMixture
    from taut.api.model import Model, Run, load
    from taut.api.variational import IWAE, VAE
    from taut.completion.imputer import Imputer
    from taut.errors import RunError, UserError

    __version__: str

__all__ = [
    "IWAE",
    "VAE",
    "EvaluationReport",
    "GaussianMixture",
    "Imputer",
    "Model",
    "Run",
    "RunError",
    "UserError",
    "__version__",
    "audit",
    "evaluate",
    "evidence",
    "load",
]

_MODULES = {
    "EvaluationReport": "taut.api.evaluate",
    "GaussianMixture": "taut.api.mixture",
    "IWAE": "taut.api.variational",
    "Imputer": "taut.completion.imputer",
    "Model": "taut.api.model",
    "Run": "taut.api.model",
    "RunError": "taut.errors",
    "UserError": "taut.errors",
    "VAE": "taut.api.variational",
    "audit": "taut.api.audit",
    "evaluate": "taut.api.evaluate",
    "load": "taut.api.model",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: torch and Lightning take seconds, and ``import taut`` none."""
    if name == "__version__":
        # importlib.metadata alone is half of what an import of taut may take
        value: object = importlib.import_module("importlib.metadata").version("taut")
    elif name == "evidence":
        value = importlib.import_module("taut.evidence")
    elif name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
