"""taut: train latent-variable models and measure how tight their bounds are."""

from importlib.metadata import version

__version__ = version("taut")
