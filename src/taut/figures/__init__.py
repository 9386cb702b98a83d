"""Matplotlib figures as pure functions of numpy arrays; nothing here knows a model or a trainer."""

from taut.figures.bound import bound_versus_k
from taut.figures.history import history
from taut.figures.images import image_rows
from taut.figures.latent import latent_plane
from taut.figures.mixture import mixture_scatter
from taut.figures.style import save

__all__ = ["bound_versus_k", "history", "image_rows", "latent_plane", "mixture_scatter", "save"]
