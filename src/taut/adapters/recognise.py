"""Which adapter a model belongs to, by the packages that its classes come from; nothing is imported to find out."""

from importlib import import_module
from typing import Any

from torch import nn

from taut.adapters.base import Adapter, Auditable, Functions
from taut.errors import UserError

PACKAGES = {"pythae": "taut.adapters.pythae", "scvi": "taut.adapters.scvi", "sklearn": "taut.adapters.sklearn"}
"""Packages whose models are taken as they are, and where their adapter is: its function ``adapted``."""
OTHERS = (
    "an object with log_joint(x, z) and q(x), a model of pythae, of scvi-tools, a GaussianMixture or FactorAnalysis of "
    "scikit-learn, or taut.adapters.plain.Plain, taut.adapters.pyro.Pyro, taut.adapters.jax.Jax or NumPyro of yours"
)


def adapter_of(model: Any) -> Adapter:
    """The adapter of a model.

    Raises:
        UserError: If none knows it.
    """
    if isinstance(model, Adapter):
        return model
    if isinstance(model, Auditable):
        return Functions.of(model)
    for kind in type(model).__mro__:
        place = PACKAGES.get(kind.__module__.partition(".")[0])
        if place is not None and (found := import_module(place).adapted(model)) is not None:
            return found
    if isinstance(model, nn.Module):
        raise UserError(
            f"A module of torch, here {type(model).__qualname__}, says no density; give its parts and a likelihood: "
            "taut.audit(q=model.encoder, decoder=model.decoder, likelihood='bernoulli', data=x), or "
            "taut.adapters.plain.Plain of them."
        )
    raise UserError(f"A {type(model).__module__}.{type(model).__qualname__} cannot be audited; give {OTHERS}.")
