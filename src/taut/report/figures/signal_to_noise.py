"""Signal to noise of gradients against K."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

from taut.report.figures.bound import k_axis
from taut.report.figures.style import GREY, canvas, colours, styled

TITLES = {"q": "q (encoder)", "model": "model (prior and decoder)"}
Curve = tuple[Sequence[float], Sequence[float]]
"""Values and their errors; NaN where there is no signal to be seen."""


@styled
def signal_to_noise(ks: Sequence[int], curves: Mapping[str, Mapping[str, Curve]], *, title: str) -> Figure:
    """A panel for each part of the model, a curve for each objective, both axes logarithmic.

    Args:
        ks: Numbers of samples K.
        curves: By part (``q``, ``model``) and objective.
        title: What the picture is of.
    """
    figure = canvas(4.2 * len(curves), 4.0)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (part, by_objective) in zip(panels, curves.items(), strict=True):
        _panel(axes, ks, by_objective)
        axes.set_title(TITLES[part])
    panels[0].set_ylabel("signal to noise of a gradient")
    panels[0].legend()
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return figure


def _panel(axes: Axes, ks: Sequence[int], curves: Mapping[str, Curve]) -> None:
    axes.set_yscale("log")
    for (name, (values, errors)), colour in zip(curves.items(), colours(len(curves)), strict=True):
        axes.errorbar(ks, values, yerr=errors, label=name, color=colour, marker="o", markersize=4, capsize=3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    k_axis(axes, np.asarray(ks), most=8)
    known = [value for values, _ in curves.values() for value in values if value > 0]
    if known and len(ks) > 1:
        middle, where = float(np.exp(np.mean(np.log(known)))), float(np.exp(np.mean(np.log([ks[0], ks[-1]]))))
        for power, words in ((-0.5, r"$K^{-1/2}$"), (0.5, r"$K^{1/2}$")):
            line = [middle * (k / where) ** power for k in ks]
            axes.plot(ks, line, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
            axes.annotate(words, (ks[-1], line[-1]), fontsize=8, color=GREY)
