"""Matplotlib figures as pure functions of numpy arrays; nothing here knows a model or a trainer."""

from taut.report.figures.bound import bound_versus_k, history
from taut.report.figures.bracket import bracket
from taut.report.figures.completions import completed_columns, completions
from taut.report.figures.equal_cost import equal_cost
from taut.report.figures.gaps import gap_histogram, stacked_gaps
from taut.report.figures.images import image_rows
from taut.report.figures.latent import latent_plane
from taut.report.figures.learning_rate import learning_rate
from taut.report.figures.mixture import mixture_scatter
from taut.report.figures.signal_to_noise import signal_to_noise
from taut.report.figures.style import save
from taut.report.figures.thermodynamic import thermodynamic

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
    "learning_rate",
    "mixture_scatter",
    "save",
    "signal_to_noise",
    "stacked_gaps",
    "thermodynamic",
]
