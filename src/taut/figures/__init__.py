"""Matplotlib figures as pure functions of numpy arrays; nothing here knows a model or a trainer."""

from taut.figures.bound import bound_versus_k
from taut.figures.bracket import bracket
from taut.figures.completions import completed_columns, completions
from taut.figures.decomposition import stacked_gaps
from taut.figures.equal_cost import equal_cost
from taut.figures.gaps import gap_histogram
from taut.figures.history import history
from taut.figures.images import image_rows
from taut.figures.latent import latent_plane
from taut.figures.mixture import mixture_scatter
from taut.figures.style import save
from taut.figures.thermodynamic import thermodynamic

__all__ = [
    "bound_versus_k",
    "bracket",
    "completed_columns",
    "completions",
    "equal_cost",
    "gap_histogram",
    "history",
    "image_rows",
    "latent_plane",
    "mixture_scatter",
    "save",
    "stacked_gaps",
    "thermodynamic",
]
