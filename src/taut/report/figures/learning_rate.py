"""The search of a learning rate, as a picture."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from taut.report.figures.style import BLUE, ORANGE, canvas, styled


@styled
def learning_rate(rates: Sequence[float], bounds: Sequence[float], chosen: float, *, title: str) -> Figure:
    """The bound against the rate of the step, and the rate that was chosen.

    Args:
        rates: Of every step.
        bounds: The running mean of the training bound, nats per datum.
        chosen: The rate.
        title: What the picture is of.
    """
    figure = canvas()
    axes = figure.add_subplot()
    axes.plot(rates, bounds, color=BLUE)
    axes.axvline(chosen, color=ORANGE)
    axes.annotate(
        f"optimizer.lr={chosen:g}",
        (chosen, 0.04),
        xycoords=("data", "axes fraction"),
        xytext=(-6, 0),
        ha="right",
        textcoords="offset points",
        color=ORANGE,
    )
    axes.set_xscale("log")
    start, best = bounds[0], max(bounds)
    # a bound that falls apart at the highest rates would leave a flat line
    axes.set_ylim(start - 0.5 * (best - start), best + 0.1 * (best - start))
    axes.set(xlabel="learning rate of the step", ylabel="training bound, running mean, nats")
    axes.set_title(title)
    return figure
